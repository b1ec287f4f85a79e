"""cuDNN's INT8 convolutions through nvidia-cudnn-frontend, NHWC, the fastest of its plans.

Three forms, of which the first that cuDNN has an engine for is timed: with scale, bias and
requantization to int8 as the engine does it; scaled, with float out; the bare int32 accumulators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cudnn
import torch

from tools.gpu_bench.convolutions import Convolution
from tools.gpu_bench.peers import Absent
from tools.gpu_bench.peers.gpu_graphs import microseconds

MOST_PLANS = 12  # of one layer that are timed
FORMS = ("int8 out", "float out", "int32 out")


def measure(layers: Sequence[Convolution]) -> list[dict[str, Any]]:
    """Return the microseconds of each layer and the form, or why there are none."""
    if not torch.cuda.is_available():
        raise Absent("torch sees no GPU")
    handle = cudnn.create_handle()
    try:
        return [_measured(layer, handle) for layer in layers]
    finally:
        cudnn.destroy_handle(handle)


def _measured(layer: Convolution, handle: Any) -> dict[str, Any]:
    reasons = []
    for form in FORMS:
        try:
            return {"us": _time(layer, form, handle), "form": form}
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError) as error:
            reasons.append(f"{form}: {str(error).splitlines()[0]}")
    return {"reason": "; ".join(reasons)}


def _time(layer: Convolution, form: str, handle: Any) -> float:
    graph, tensors = describe(layer, form, handle)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    pack = {tensor: _memory(tensor) for tensor in tensors}
    times = []
    for plan in range(min(MOST_PLANS, graph.get_execution_plan_count())):
        try:
            times.append(_time_plan(graph, pack, plan, handle))
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError):
            continue  # not on this GPU, or not inside a CUDA graph; the next one may be
    if not times:
        raise RuntimeError("none of its plans runs here")
    return min(times)


def _time_plan(graph: Any, pack: Any, plan: int, handle: Any) -> float:
    graph.build_plan_at_index(plan)
    size = max(1, graph.get_workspace_size_plan_at_index(plan))
    space = torch.empty(size, dtype=torch.uint8, device="cuda")

    def run() -> None:
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
        graph.execute_plan_at_index(pack, space, plan, handle=handle)

    return microseconds(run)


def describe(layer: Convolution, form: str, handle: Any) -> tuple[Any, list[Any]]:
    """Return cuDNN's graph of a convolution, and the tensors that need memory."""
    kinds = cudnn.data_type
    graph = cudnn.pygraph(
        handle=handle, io_data_type=kinds.INT8, intermediate_data_type=kinds.INT32,
        compute_data_type=kinds.INT32,
    )  # fmt: skip
    x = _tensor(graph, "x", layer.n, layer.c, layer.h, layer.w, kinds.INT8)
    weights = _tensor(graph, "w", layer.oc, layer.c, *layer.size, kinds.INT8)
    y = graph.conv_fprop(
        image=x, weight=weights, pre_padding=list(layer.before), post_padding=list(layer.after),
        stride=list(layer.stride), dilation=list(layer.dilation), compute_data_type=kinds.INT32,
    )  # fmt: skip
    if form == "int32 out":
        y.set_output(True).set_data_type(kinds.INT32)
        return graph, [x, weights, y]
    y.set_data_type(kinds.INT32)
    per_channel = [
        _tensor(graph, name, 1, layer.oc, 1, 1, kinds.FLOAT) for name in ("scale", "bias")
    ]
    scaled = _pointwise(graph.mul, y, per_channel[0])
    shifted = _pointwise(graph.add, scaled, per_channel[1])
    shifted.set_output(True).set_data_type(kinds.INT8 if form == "int8 out" else kinds.FLOAT)
    return graph, [x, weights, *per_channel, shifted]


def _pointwise(op: Callable[..., Any], a: Any, b: Any) -> Any:
    result = op(a=a, b=b, compute_data_type=cudnn.data_type.FLOAT)
    result.set_data_type(cudnn.data_type.FLOAT)
    return result


def _tensor(graph: Any, name: str, n: int, c: int, h: int, w: int, kind: Any) -> Any:
    """Return a tensor in cuDNN's order of extents that lies as [n, h, w, c]."""
    stride = [h * w * c, 1, w * c, c]
    return graph.tensor(name=name, dim=[n, c, h, w], stride=stride, data_type=kind)


def _memory(tensor: Any) -> torch.Tensor:
    """Return memory for a tensor: noise where it is int8, zeros elsewhere."""
    kinds = cudnn.data_type
    n, c, h, w = tensor.get_dim()
    shape = (n, h, w, c)
    if tensor.get_data_type() == kinds.INT8:
        made = torch.randint(-127, 128, shape, dtype=torch.int8, device="cuda")
    else:
        kind = torch.int32 if tensor.get_data_type() == kinds.INT32 else torch.float32
        made = torch.zeros(shape, dtype=kind, device="cuda")
    return made.permute(0, 3, 1, 2)
