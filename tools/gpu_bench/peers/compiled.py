"""torch.compile in fp16, channels_last, replayed as one CUDA graph with its copies in and out.

The same work as the engine's graph: float32 in pinned memory -> the net -> float32 in pinned
memory, one replay, one wait. It is captured here and not by `mode="reduce-overhead"`, whose copies
are outside its graph.
"""

from __future__ import annotations

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
        self._outputs: list[torch.Tensor] = []
        self._stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for result in self._results():
                self._outputs.append(torch.empty_like(result, device="cpu").pin_memory())
            for _ in range(WARM_RUNS):
                self._step()
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph, stream=self._stream):
            self._step()

    def _results(self) -> list[torch.Tensor]:
        # In two steps: in one, torch would convert on the CPU, into memory that no graph can copy.
        images = [x.to("cuda", non_blocking=True).half() for x in self._inputs]
        return [result.float() for result in self._net(*images)]

    def _step(self) -> None:
        for output, result in zip(self._outputs, self._results(), strict=True):
            output.copy_(result, non_blocking=True)

    def _write(self) -> None:
        for pinned, value in zip(self._inputs, self._given, strict=True):
            pinned.numpy()[...] = value

    def replay(self) -> list[np.ndarray]:
        """Run once through the graph, from the host's memory to the host's memory."""
        self._write()
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._stream.synchronize()
        return [output.numpy().copy() for output in self._outputs]

    def run(self) -> list[np.ndarray]:
        """Run once, launch by launch."""
        self._write()
        with torch.no_grad(), torch.cuda.stream(self._stream):
            self._step()
        self._stream.synchronize()
        return [output.numpy().copy() for output in self._outputs]

    def gpu_us(self) -> float:
        """Return the microseconds of the net alone, from fp16 on the GPU to its results there."""
        images = [x.to("cuda").half() for x in self._inputs]
        with torch.no_grad():
            return microseconds(lambda: self._net(*images))
