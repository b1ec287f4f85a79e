"""One interpreter: right answers, errors that name thing, actual and expected, and an end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.tflite import runtime
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner, TensorSpec, runtime_version
from tests import tiny

FLOAT = np.dtype(np.float32)


@pytest.fixture
def runner(tiny_model_bytes: bytes) -> Iterator[Runner]:
    runner = Runner(tiny_model_bytes)
    yield runner
    runner.close()


def test_the_interface_is_what_the_file_says(runner: Runner) -> None:
    assert runner.inputs == (TensorSpec("image", (1, 8, 8, 3), FLOAT),)
    assert runner.outputs == (TensorSpec("scores", (1, 4), FLOAT),)


def test_xnnpack_and_the_reference_kernels_agree(tiny_model_bytes: bytes) -> None:
    fast, reference = Runner(tiny_model_bytes), Runner(tiny_model_bytes, delegate=False)
    for seed in range(5):
        inputs = tiny.tiny_inputs(seed)
        expected = reference.run(inputs)["scores"]
        np.testing.assert_allclose(fast.run(inputs)["scores"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["resnet8_cifar10", "kws_dscnn", "ad01", "ultraface_slim320"])
def test_both_agree_on_real_models(shared: Path, name: str) -> None:
    content = (shared / "data" / "models" / f"{name}_fp32.tflite").read_bytes()
    fast, reference = Runner(content), Runner(content, delegate=False)
    spec = fast.inputs[0]
    inputs = {spec.name: np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)}
    actual = fast.run(inputs)
    for output, expected in reference.run(inputs).items():
        bound = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(actual[output], expected, rtol=0, atol=bound)


def test_results_are_copies(runner: Runner) -> None:
    first = runner.run(tiny.tiny_inputs(0))["scores"]
    kept = first.copy()
    runner.run(tiny.tiny_inputs(1))
    np.testing.assert_array_equal(first, kept)


def test_results_in_place_are_the_same_without_a_copy(runner: Runner) -> None:
    expected = runner.run(tiny.tiny_inputs(0))["scores"]
    for _ in range(3):
        (view,) = runner.run_in_place(tiny.tiny_inputs(0))
        np.testing.assert_array_equal(view, expected)
        assert not view.flags.owndata
        del view


def test_a_view_that_is_still_held_stops_the_next_run(runner: Runner) -> None:
    views = runner.run_in_place(tiny.tiny_inputs(0))
    with pytest.raises(EngineError, match="inference failed"):
        runner.run_in_place(tiny.tiny_inputs(1))
    del views
    runner.run_in_place(tiny.tiny_inputs(1))


def test_a_batch_gives_every_input_its_first_extent() -> None:
    runner = Runner(tiny.one_op_model("RELU").to_bytes(), batch=3)
    values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    assert runner.inputs[0].shape == runner.outputs[0].shape == (3, 4)
    np.testing.assert_array_equal(runner.run({"x": values})["y"], values.clip(0))


def test_a_batch_that_the_model_cannot_take_is_an_engine_error(tiny_model_bytes: bytes) -> None:
    with pytest.raises(EngineError, match="the runtime refuses the model"):
        Runner(tiny_model_bytes, batch=2)


def test_inputs_are_checked_without_running(runner: Runner) -> None:
    runner.check(tiny.tiny_inputs())
    with pytest.raises(InvalidRequestError, match="missing"):
        runner.check({})


def test_a_scalar_stays_a_scalar() -> None:
    runner = Runner(tiny.one_op_model("RELU", ()).to_bytes())
    (result,) = runner.run({"x": np.array(-2, np.float32)}).values()
    assert result.shape == ()


def test_inputs_may_lie_anyhow_in_memory(runner: Runner) -> None:
    image = tiny.tiny_inputs()["image"]
    expected = runner.run({"image": image})["scores"]
    turned = np.asfortranarray(image)
    turned.flags.writeable = False
    np.testing.assert_array_equal(runner.run({"image": turned})["scores"], expected)
    behind_a_head = np.frombuffer(b"?" + image.tobytes(), np.float32, offset=1).reshape(image.shape)
    assert not behind_a_head.flags.aligned
    np.testing.assert_array_equal(runner.run({"image": behind_a_head})["scores"], expected)


def test_ordered_inputs_are_contiguous() -> None:
    specs = (TensorSpec("a", (2, 3), FLOAT), TensorSpec("b", (), FLOAT))
    odd = np.frombuffer(bytes(1) + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1)
    scalar = np.frombuffer(bytes(7), np.float32, 1, offset=3).reshape(())
    inputs = {"b": scalar, "a": odd.reshape(3, 2).T}
    for given, ordered in zip("ab", runtime.ordered_inputs(specs, inputs), strict=True):
        assert ordered.flags.c_contiguous
        assert ordered.shape == inputs[given].shape
        np.testing.assert_array_equal(ordered, inputs[given])
    aligned = {"a": np.ones((2, 3), np.float32), "b": np.float32(2).reshape(())}
    assert runtime.ordered_inputs(specs, aligned)[0] is aligned["a"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'image' is missing"),
        ({"x": np.zeros(1)}, r"input 'x' is unknown; the model takes \['image'\]"),
        (
            {"image": np.zeros((1, 8, 8, 4), np.float32)},
            r"input 'image' has shape \[1, 8, 8, 4\]; the model takes \[1, 8, 8, 3\]",
        ),
        ({"image": np.zeros((8, 8, 3), np.float32)}, r"has shape \[8, 8, 3\]; the model takes"),
        (
            {"image": np.zeros((1, 8, 8, 3), np.float64)},
            "input 'image' has type float64; the model takes float32",
        ),
    ],
)
def test_a_wrong_input_is_named_with_what_it_is_and_should_be(
    runner: Runner, inputs: dict[str, tiny.Array], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        runner.run(inputs)
    runner.run(tiny.tiny_inputs())  # and the next request is answered


@pytest.mark.parametrize("content", [b"", b"no model", b"\x1c\0\0\0TFL3" + b"\0" * 64])
def test_a_model_the_runtime_refuses_is_an_engine_error(content: bytes) -> None:
    with pytest.raises(EngineError, match=r"the runtime refuses the model: .") as caught:
        Runner(content)
    assert "doctor" in caught.value.hint


def test_an_op_that_the_runtime_does_not_have_is_an_engine_error(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    model.operators[1].opcodeIndex = model.opcode_index("RELU", 99)
    with pytest.raises(EngineError, match="version"):
        Runner(model.to_bytes())


def test_a_name_that_is_not_utf8_is_an_engine_error(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    model.tensors[0].name = b"\xff"
    with pytest.raises(EngineError, match="utf-8"):
        Runner(model.to_bytes())


def two_inputs(first: bytes, second: bytes) -> bytes:
    g = tiny.GraphBuilder({"a": (1, 2), "b": (1, 2)})
    total, difference = g.op("ADD", [0, 1], ("y", (1, 2))), g.op("SUB", [0, 1], ("y", (1, 2)))
    model = g.finish(total, difference)
    model.tensors[0].name, model.tensors[1].name = first, second
    return model.to_bytes()


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [(b"x", b"x", ["x", "x#1"]), (b"", b"", ["#0", "#1"]), (b"b", b"a", ["b", "a"])],
)
def test_repeated_and_empty_names_are_told_apart_by_position(
    first: bytes, second: bytes, names: list[str]
) -> None:
    runner = Runner(two_inputs(first, second))
    assert [spec.name for spec in runner.inputs] == names
    values = [np.array([[3, 1]], np.float32), np.array([[2, 5]], np.float32)]
    result = runner.run(dict(zip(names, values, strict=True)))
    assert result["y"].tolist() == [[5, 6]]
    assert result["y#1"].tolist() == [[1, -4]]


def test_a_free_extent_takes_any_size_and_the_batch_does_not() -> None:
    g = tiny.GraphBuilder({"x": (1, 1, 1)})
    model = g.finish(g.op("RELU", g.inputs, ("y", (1, 1, 1))))
    for tensor in model.tensors:
        tensor.shapeSignature = np.array([-1, -1, -1], np.int32)
    runner = Runner(model.to_bytes())
    assert runner.inputs[0].shape == (1, -1, -1)
    for shape in [(1, 3, 2), (1, 1, 1), (1, 3, 2), (1, 40, 7)]:
        value = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_array_equal(runner.run({"x": value})["y"], value.clip(0))
    with pytest.raises(InvalidRequestError, match="shape"):
        runner.run({"x": np.zeros((2, 1, 1), np.float32)})


@pytest.mark.shared
def test_an_output_whose_size_the_file_does_not_know_is_free_and_comes_whole(shared: Path) -> None:
    path = shared / "data" / "models" / "ultraface_slim320_fp32.tflite"
    runner = Runner(path.read_bytes())
    assert [spec.shape for spec in runner.outputs] == [(1, -1, 4), (1, -1, 2)]
    result = runner.run({"input_1": np.zeros((1, 240, 320, 3), np.float32)})
    assert [value.shape for value in result.values()] == [(1, 4420, 4), (1, 4420, 2)]


def test_a_spec_accepts_what_fits() -> None:
    spec = TensorSpec("x", (1, -1, 3), FLOAT)
    assert spec.accepts((1, 7, 3))
    assert not spec.accepts((2, 7, 3))
    assert not spec.accepts((1, 7))


def test_closing_twice_is_harmless(tiny_model_bytes: bytes) -> None:
    runner = Runner(tiny_model_bytes)
    runner.close()
    runner.close()


def test_what_a_closed_runner_held_is_free_again(tiny_model_bytes: bytes) -> None:
    def cycles(count: int) -> int:
        for _ in range(count):
            runner = Runner(tiny_model_bytes)
            runner.run(tiny.tiny_inputs())
            runner.close()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    before = cycles(50)
    assert cycles(200) - before < 4 << 20  # 0.4 MB in 500 cycles measured on ResNet-8


def test_runners_of_several_threads_do_not_disturb_each_other(tiny_model_bytes: bytes) -> None:
    expected = [Runner(tiny_model_bytes).run(tiny.tiny_inputs(s))["scores"] for s in range(4)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        runner = Runner(tiny_model_bytes)
        for _ in range(50):
            if (runner.run(tiny.tiny_inputs(seed))["scores"] != expected[seed]).any():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_thread_stays_one_thread(tiny_model_bytes: bytes) -> None:
    before = _threads()
    runner = Runner(tiny_model_bytes, threads=1)
    runner.run(tiny.tiny_inputs())
    assert _threads() <= before


def _threads() -> set[str]:
    return {path.name for path in Path("/proc/self/task").iterdir()}


# ---- which runtime


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Let the lookup of the runtime happen anew, now and after the test."""
    runtime._interpreter_module.cache_clear()
    yield
    runtime._interpreter_module.cache_clear()


class FakeInterpreter:
    """The part of tflite_runtime's Interpreter that a Runner drives: y = 2 x."""

    def __init__(self, model_content: bytes, num_threads: int, **options: Any) -> None:
        self.options = (model_content, num_threads, options)

    def allocate_tensors(self) -> None:
        self.x = np.zeros((1, 2), np.float32)

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"name": "x", "index": 0, "shape": np.array([1, 2]), "dtype": np.float32}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"name": "y", "index": 1, "shape": np.array([1, 2]), "dtype": np.float32}]

    def set_tensor(self, index: int, value: tiny.Array) -> None:
        self.x = value

    def reset_all_variables(self) -> None:
        pass

    def invoke(self) -> None:
        if np.isnan(self.x).any():
            raise RuntimeError("node 0 (MUL) failed\nand more")

    def get_tensor(self, index: int) -> tiny.Array:
        return self.x * 2


@pytest.fixture
def only_tflite_runtime(monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    fake = ModuleType("tflite_runtime.interpreter")
    fake.Interpreter = FakeInterpreter  # type: ignore[attr-defined]
    fake.OpResolverType = type(  # type: ignore[attr-defined]
        "OpResolverType", (), {"AUTO": 0, "BUILTIN_WITHOUT_DEFAULT_DELEGATES": 3}
    )
    package = ModuleType("tflite_runtime")
    package.interpreter = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", fake)
    monkeypatch.setattr(runtime.metadata, "version", lambda name: f"2.14.0 of {name}")


def test_litert_is_the_runtime_wherever_it_is_installed() -> None:
    version = runtime_version()
    assert version.package == "ai-edge-litert"
    assert not version.is_fallback
    assert str(version) == f"ai-edge-litert {version.version}"


@pytest.mark.usefixtures("only_tflite_runtime")
def test_tflite_runtime_is_driven_the_same_way() -> None:
    version = runtime_version()
    assert version.is_fallback
    assert str(version) == "tflite-runtime 2.14.0 of tflite-runtime"
    runner = Runner(b"model", threads=2, delegate=False)
    assert runner._interpreter.options == (b"model", 2, {"experimental_op_resolver_type": 3})
    assert runner.run({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[2, 2]]


@pytest.mark.usefixtures("only_tflite_runtime")
def test_a_failing_run_is_an_engine_error_of_one_line() -> None:
    runner = Runner(b"model")
    with pytest.raises(EngineError, match=r"^inference failed: node 0 \(MUL\) failed$"):
        runner.run({"x": np.full((1, 2), np.nan, np.float32)})


@pytest.mark.usefixtures("forgotten")
def test_without_any_runtime_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    with pytest.raises(EngineError, match="no TFLite runtime is installed") as caught:
        runtime_version()
    assert "pip install" in caught.value.hint
