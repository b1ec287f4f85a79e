"""Who is measured, each in a child process of its own; libraries are imported there alone.

A request names the model's file, the batch and the seconds; an answer is what JSON can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeq.tflite.model import Model
from tools.gpu_bench.convolutions import convolutions

Request = Mapping[str, Any]
Answer = dict[str, Any]
Measure = Callable[[Request], Answer]


def _edgeq(request: Request) -> Answer:
    from tools.gpu_bench import ours

    return ours.measure(_content(request), request["batch"], request["seconds"])


def _device(request: Request) -> Answer:
    from tools.gpu_bench import ours

    return {"device": ours.device()}


def _bits(request: Request) -> Answer:
    from tools.gpu_bench import ours

    return ours.check(_content(request))


def _op_table(request: Request) -> Answer:
    from tools.gpu_bench import op_table

    return {"rows": op_table.check(request["rows"])}


def _cpu(request: Request) -> Answer:
    from tools.gpu_bench import ours

    return ours.cpu(_content(request), request["batch"], request["seconds"])


def _torch_compile(request: Request) -> Answer:
    from tools.gpu_bench.peers import compiled

    model = Model.from_bytes(_content(request))
    return compiled.measure(model, request["batch"], request["seconds"], mode=request["mode"])


def _cudnn(request: Request) -> Answer:
    from tools.gpu_bench.peers import cudnn_int8

    return _by_layer(request, cudnn_int8.measure)


def _int_mm(request: Request) -> Answer:
    from tools.gpu_bench.peers import int_mm

    return _by_layer(request, int_mm.measure)


def _by_layer(request: Request, measure: Callable[..., list[Answer]]) -> Answer:
    """Measure each different layer once; layers by their op's position in the model."""
    layers = convolutions(Model.from_bytes(_content(request)), request["batch"])
    different = list({layer.extents: layer for layer in layers}.values())
    measured = dict(zip((d.extents for d in different), measure(different), strict=True))
    return {
        "layers": [
            {"position": layer.position, "extents": str(layer), **measured[layer.extents]}
            for layer in layers
        ]
    }


def _content(request: Request) -> bytes:
    return Path(request["model"]).read_bytes()


WHOLE_NETS: dict[str, Measure] = {
    "edgeq": _edgeq,
    "torch.compile fp16": _torch_compile,
    "LiteRT on the CPU": _cpu,
}
LAYERS: dict[str, Measure] = {"cuDNN int8": _cudnn, "torch._int_mm": _int_mm}
CHECKS: dict[str, Measure] = {"device": _device, "bits": _bits, "op table": _op_table}
ALL = {**WHOLE_NETS, **LAYERS, **CHECKS}
