"""What has no kernel stays on the CPU, in as few parts as can be, and the parts give the whole."""

from __future__ import annotations

import pytest

from edgeq.engines.cuda.lowering.partition import CpuPart, GpuPart, Partition, partition
from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests.engines.cuda.int8_models import Grid, Int8Model, random_inputs
from tests.engines.cuda.lowered import differing_bytes

UNIT = Grid(1 / 128)
LARGE = (1, 64, 64, 20)  # more than a small piece
SAMPLES = range(2)


class Net(Int8Model):
    """Ops of one shape: 'gpu' ones that are lowered, 'cpu' ones that are not."""

    def __init__(self, shape: tuple[int, ...] = LARGE) -> None:
        super().__init__()
        self.shape = shape

    def gpu(self, x: int) -> int:
        y = self.activation(self.shape)
        return self.op("ABS", [x], y)

    def cpu(self, x: int) -> int:
        y = self.activation(self.shape, UNIT)
        return self.op("L2_NORMALIZATION", [x], y, "L2Norm")

    def dequantized(self, x: int) -> int:
        return self.op("DEQUANTIZE", [x], self.activation(self.shape, type_name="FLOAT32"))

    def quantized(self, x: int) -> int:
        return self.op("QUANTIZE", [x], self.activation(self.shape), version=1)

    def in_float(self, x: int) -> int:
        return self.op("EXP", [x], self.activation(self.shape, type_name="FLOAT32"), version=1)


def sides(parts: Partition) -> str:
    return "".join(f"{'G' if isinstance(p, GpuPart) else 'C'}{len(p.ops)}" for p in parts.parts)


def assert_exact(model: Model) -> None:
    assert differing_bytes(model, [random_inputs(model, seed) for seed in SAMPLES]) == 0


def test_a_model_without_unsupported_ops_is_one_program() -> None:
    net = Net((1, 4))
    parts = partition(net.finish(net.gpu(net.gpu(net.input(net.shape)))))
    assert (sides(parts), parts.is_whole, parts.reasons) == ("G2", True, ())


def test_an_op_without_a_kernel_cuts_the_model_and_says_why() -> None:
    net = Net()
    x = net.gpu(net.input(net.shape))
    model = net.finish(net.gpu(net.cpu(x)))
    parts = partition(model)
    assert sides(parts) == "G1C1G1"
    (reason,) = parts.reasons
    assert (reason.position, reason.op) == (1, "L2_NORMALIZATION")
    assert reason.reason == "L2_NORMALIZATION has no kernel"
    assert_exact(model)


def test_parts_pass_tensors_on_by_the_model_s_names() -> None:
    net = Net()
    model = net.finish(net.gpu(net.cpu(net.gpu(net.input(net.shape)))))
    first, second, third = partition(model).parts
    assert (first.inputs, third.outputs) == (("t0",), ("t3",))
    assert (first.outputs, second.outputs) == (second.inputs, third.inputs) == (("t1",), ("t2",))
    assert isinstance(first, GpuPart)
    assert first.program.values[first.program.inputs[0]].name == "t0"
    assert first.program.labels == ("0 ABS",)


def test_ops_that_do_not_wait_for_each_other_share_a_part() -> None:
    net = Net()
    x = net.input(net.shape)
    branches = [net.gpu(net.cpu(net.gpu(x))) for _ in range(3)]
    model = net.finish(*branches)
    assert sides(partition(model)) == "G3C3G3"
    assert_exact(model)


def test_the_cpu_begins_where_that_makes_fewer_parts() -> None:
    net = Net()
    x = net.input(net.shape)
    y = net.gpu(net.cpu(x))
    model = net.finish(net.op("ADD", [y, net.gpu(x)], net.activation(net.shape), "Add"))
    assert sides(partition(model)) == "C1G3"
    assert_exact(model)


def test_a_small_piece_between_cpu_ops_stays_with_them() -> None:
    net = Net((1, 16))
    x = net.input(net.shape)
    model = net.finish(net.gpu(net.cpu(net.gpu(net.cpu(x)))))
    parts = partition(model)
    assert sides(parts) == "C4"
    assert [r.reason for r in parts.reasons][1] == (
        "ABS is too little work to cross to the GPU and back for"
    )
    assert_exact(model)


def test_a_large_piece_between_cpu_ops_goes_to_the_gpu() -> None:
    net = Net()
    x = net.input(net.shape)
    assert sides(partition(net.finish(net.cpu(net.gpu(net.cpu(x)))))) == "C1G1C1"


def test_a_reshape_never_crosses_alone() -> None:
    net = Net()
    flat = (1, 64 * 64 * 20)
    x = net.cpu(net.input(net.shape))
    y = net.activation(flat, UNIT)
    net.op("RESHAPE", [x, net.constant(flat)], y, "Reshape")
    z = net.activation(flat, UNIT)
    net.op("L2_NORMALIZATION", [y], z, "L2Norm")
    assert sides(partition(net.finish(z))) == "C3"


def test_a_float_island_is_quantized_on_the_gpu() -> None:
    net = Net()
    x = net.gpu(net.input(net.shape))
    island = net.in_float(net.dequantized(x))
    model = net.finish(net.gpu(net.quantized(island)))
    parts = partition(model)
    assert sides(parts) == "G2C1G2"
    assert [reason.reason for reason in parts.reasons] == ["EXP takes or gives FLOAT32"]
    assert_exact(model)


def test_a_tensor_may_cross_over_several_parts() -> None:
    net = Net()
    x = net.gpu(net.input(net.shape))
    y = net.gpu(net.cpu(x))
    model = net.finish(net.op("ADD", [x, y], net.activation(net.shape), "Add"), x)
    parts = partition(model)
    assert sides(parts) == "G1C1G2"
    assert "t1" in parts.parts[2].inputs
    assert_exact(model)


def test_interfaces_are_in_the_model_s_order() -> None:
    net = Net()
    a, b = net.input(net.shape), net.input(net.shape)
    second, first = net.gpu(b), net.gpu(a)
    (part,) = partition(net.finish(first, second)).parts
    assert (part.inputs, part.outputs) == (("t0", "t1"), ("t3", "t2"))


def test_a_cpu_part_keeps_folded_constants_and_real_shapes() -> None:
    net = Net((2, 3))
    x = net.input(net.shape)
    shape, flat, y = (net.activation(s, type_name=t) for s, t in
                      (((2,), "INT32"), ((1, 1), "INT8"), ((1, 1), "INT8")))  # fmt: skip
    net.op("SHAPE", [x], shape, "Shape", version=1, outType=schema.TensorType.INT32)
    net.op("RESHAPE", [x, shape], flat, "Reshape", version=1)
    net.op("L2_NORMALIZATION", [flat], y, "L2Norm")
    net.model.set_quantization(y, net.model.quantization(net.activation((1,), UNIT)))
    model = net.finish(y)
    (part,) = partition(model).parts
    assert isinstance(part, CpuPart)
    assert Model.from_bytes(part.content).shape(2) == (2, 3)
    assert_exact(model)


@pytest.mark.parametrize("shape", [(1, 16), LARGE])
def test_everything_unsupported_is_one_cpu_part(shape: tuple[int, ...]) -> None:
    net = Net(shape)
    model = net.finish(net.cpu(net.cpu(net.input(shape))))
    assert sides(partition(model)) == "C2"
    assert_exact(model)
