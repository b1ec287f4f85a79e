"""torch.compile in fp16, channels_last, replayed as a CUDA graph.

The same work as the engine's: float32 in pinned memory -> the net -> float32 in pinned memory, one
wait. The two copies are outside the graph, where `mode="reduce-overhead"` leaves them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from edgeq.tflite.model import Model
from tools.gpu_bench.peers import Absent
from tools.gpu_bench.peers.gpu_graphs import microseconds
from tools.gpu_bench.peers.torch_net import torch_net
from tools.gpu_bench.timing import time_calls

MODES = {"graph": True, "eager": False}
WARM_RUNS = 3  # before a capture: compiling, cuDNN's choices, the allocator's pools


def measure(model: Model, batch: int, seconds: float, *, mode: str = "default") -> dict[str, Any]:
    """Return the percentiles with and without a graph, the net's own time, and the versions.

    Args:
        model: INT8, with float inputs.
        batch: how many images at once.
        seconds: how long each way is timed.
        mode: torch.compile's; 'max-autotune-no-cudagraphs' also tries Triton's convolutions.
    """
    if not torch.cuda.is_available():
        raise Absent("torch sees no GPU")
    torch.backends.cudnn.benchmark = True
    call = _Call(model, batch, mode)
    ways = {}
    for way, with_graph in MODES.items():
        run = call.replay if with_graph else call.run
        ways[way] = vars(time_calls(run, seconds=seconds))
    ways["graph"]["gpu_us"] = call.gpu_us()
    versions = {"torch": torch.__version__, "cudnn": str(torch.backends.cudnn.version())}
    return {"ways": ways, "versions": versions}


class _Call:
    """One compiled net with its pinned inputs and outputs."""

    def __init__(self, model: Model, batch: int, mode: str) -> None:
        net = torch_net(model).half().cuda()
        net = net.to(memory_format=torch.channels_last)
        self._net = torch.compile(net, mode=mode, fullgraph=True)
        random = np.random.default_rng(0)
        shapes = [(batch, *model.shape(tensor)[1:]) for tensor in model.inputs]
        values = [random.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
        self._given = values
        self._inputs = [torch.from_numpy(value).pin_memory() for value in values]
        self._images = [x.cuda() for x in self._inputs]
        self._stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for _ in range(WARM_RUNS):
                results = self._launch()
        self._stream.synchronize()
        self._outputs = [torch.empty_like(r, device="cpu").pin_memory() for r in results]
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph, stream=self._stream):
            self._captured = self._launch()

    def _launch(self) -> list[torch.Tensor]:
        """Put the net on the stream, from float32 to float32 on the GPU."""
        return [result.float() for result in self._net(*(x.half() for x in self._images))]

    def _replay(self) -> list[torch.Tensor]:
        self._graph.replay()
        return self._captured

    def replay(self) -> list[np.ndarray]:
        """Run once through the graph, from the host's memory to the host's memory."""
        return self._run(self._replay)

    def run(self) -> list[np.ndarray]:
        """Run once, launch by launch."""
        return self._run(self._launch)

    def _run(self, launch: Callable[[], list[torch.Tensor]]) -> list[np.ndarray]:
        for pinned, value in zip(self._inputs, self._given, strict=True):
            pinned.numpy()[...] = value
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for image, pinned in zip(self._images, self._inputs, strict=True):
                image.copy_(pinned, non_blocking=True)
            for output, result in zip(self._outputs, launch(), strict=True):
                output.copy_(result, non_blocking=True)
        self._stream.synchronize()
        return [output.numpy().copy() for output in self._outputs]

    def gpu_us(self) -> float:
        """Return the microseconds of the net alone, from fp16 on the GPU to its results there."""
        images = [image.half() for image in self._images]
        with torch.no_grad():
            return microseconds(lambda: self._net(*images))
