from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import EngineError, StructureError, UnsupportedModelError
from edgeq.intake import probe
from edgeq.intake.child import ProbeLimits, run_probe
from edgeq.intake.probe import examine
from edgeq.intake.sandbox import PURPOSES, Measure
from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests import tiny


def _write(path: Path, model: Model) -> Path:
    path.write_bytes(model.to_bytes())
    return path


def _examine(model: Model) -> dict[str, Any]:
    return examine(model.to_bytes())


def _custom(name: bytes) -> Model:
    model = tiny.one_op_model()
    code = model.proto.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = name
    return model


def _run(path: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "edgeq.intake.probe", str(path), *options]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return result.returncode, json.loads(result.stdout), result.stderr


def test_a_good_model_is_described(tmp_path: Path) -> None:
    code, answer, log = _run(_write(tmp_path / "tiny.tflite", tiny.tiny_model()))
    found = answer["ok"]
    assert code == 0
    assert found["inputs"] == [{"name": "image", "shape": [1, 8, 8, 3], "dtype": "<f4"}]
    assert found["outputs"] == [{"name": "scores", "shape": [1, 4], "dtype": "<f4"}]
    assert found["ops"]["CONV_2D"] == 1
    assert (found["quantized"], found["finite"]) == (False, True)
    assert 0 < found["memory_bytes"] < 1 << 28
    assert min(found["load_s"], found["run_s"]) > 0
    assert [measure["name"] for measure in found["sandbox"]] == list(PURPOSES)
    phases = [line for line in log.splitlines() if line.startswith("phase ")]
    assert phases == ["phase structure", "phase load", "phase run"]


def test_a_damaged_model_is_an_answer_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "torn.tflite"
    path.write_bytes(tiny.tiny_model().to_bytes()[:500])
    code, answer, _ = _run(path)
    assert code == 1
    assert answer["error"]["stage"] == "structure"
    assert answer["error"]["hint"]


def test_memory_over_the_limit_is_an_answer(tmp_path: Path) -> None:
    path = _write(tmp_path / "tiny.tflite", tiny.tiny_model())
    with path.open("ab") as file:
        file.truncate(3 << 30)  # sparse: reading it takes more than is allowed
    code, answer, _ = _run(path, "--memory-bytes", str(1 << 30))
    assert (code, answer["error"]["stage"]) == (1, "probe")
    assert "more than 1024 MiB" in answer["error"]["message"]


def test_outputs_that_are_not_finite_are_reported_and_not_refused(tmp_path: Path) -> None:
    with np.errstate(all="ignore"):
        assert _examine(tiny.one_op_model("SQRT"))["finite"] is False


def test_tensorflow_ops_are_named_in_words(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"TensorFlow ops .*: FlexErf$") as caught:
        _examine(_custom(b"FlexErf"))
    assert "TFLITE_BUILTINS" in caught.value.hint


def test_custom_ops_are_named_in_words(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"custom ops .*: MyOp$"):
        _examine(_custom(b"MyOp"))


def test_an_op_newer_than_the_runtime_is_unsupported(tmp_path: Path) -> None:
    model = tiny.one_op_model()
    model.proto.operatorCodes[0].version = 99
    with pytest.raises(UnsupportedModelError, match="version '99'"):
        _examine(model)


def test_memory_that_the_runtime_lacks_is_named_in_words(tmp_path: Path) -> None:
    path = _write(tmp_path / "large.tflite", tiny.one_op_model("RELU", (1, 8000, 8000, 4)))
    code, answer, _ = _run(path, "--memory-bytes", str(1 << 30))
    assert (code, answer["error"]["stage"]) == (1, "load")
    assert "memory" in answer["error"]["message"]


def test_a_model_that_takes_text_is_unsupported(tmp_path: Path) -> None:
    g = tiny.GraphBuilder({"words": (1,)}, type_name="STRING")
    shape = g.constant("shape", np.array([1], np.int32), "INT32")
    model = g.finish(g.op("RESHAPE", [0, shape], ("y", (1,)), type_name="STRING"))
    with pytest.raises(UnsupportedModelError, match="edgeq serves numbers"):
        _examine(model)


def test_free_extents_are_tried_until_one_runs(tmp_path: Path) -> None:
    g = tiny.GraphBuilder({"x": (1, 1, 1, 1)})
    g.model.tensors[0].shapeSignature = np.array([1, -1, -1, 1], np.int32)
    y = g.op("AVERAGE_POOL_2D", [0], ("y", (1, 1, 1, 1)), options="Pool2DOptions",
             padding=schema.Padding.VALID, strideH=2, strideW=2,
             filterHeight=4, filterWidth=4)  # fmt: skip
    found = _examine(g.finish(y))
    assert found["inputs"][0]["shape"] == [1, -1, -1, 1]


def test_a_model_that_loads_but_does_not_run_is_an_engine_error(tmp_path: Path) -> None:
    g = tiny.GraphBuilder({"index": (1,)}, type_name="INT32")
    table = g.constant("table", np.zeros((1, 4), np.float32))
    model = g.finish(g.op("GATHER", [table, 0], ("y", (1, 4)), options="GatherOptions"))
    path = _write(tmp_path / "gather.tflite", model)  # the index 1 is outside its table
    with pytest.raises(EngineError, match="inference failed"):
        examine(path.read_bytes())
    assert _run(path)[1]["error"]["stage"] == "run"


def test_an_integer_model_is_quantized(shared: Path) -> None:
    path = shared / "data" / "reference" / "kws_dscnn_int8_ref.tflite"
    assert examine(path.read_bytes())["quantized"]


@pytest.mark.shared
@pytest.mark.slow
def test_every_real_model_passes(shared: Path) -> None:
    data = shared / "data"
    for path in sorted([*data.glob("models/*.tflite"), *data.glob("reference/*.tflite")]):
        assert run_probe(path, ProbeLimits(must_confine=True)).finite, path.name


def test_text_is_a_structure_error() -> None:
    with pytest.raises(StructureError):
        examine(b"hello hello hello")


@pytest.fixture
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe in this process, which goes on."""
    monkeypatch.setattr(probe, "limit", lambda *_: None)
    monkeypatch.setattr(probe, "confine", lambda *_: tuple(map(Measure, PURPOSES)))


@pytest.mark.usefixtures("unconfined")
def test_without_a_file_the_probe_examines_its_own_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert probe.main(["--must-confine"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]["ops"] == {"CONV_2D": 1}


@pytest.mark.usefixtures("unconfined")
def test_a_file_too_large_for_the_memory_is_an_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(path: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", too_large)
    assert probe.main(["x.tflite", "--memory-bytes", str(1 << 30)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["stage"], "1024 MiB" in error["message"]) == ("probe", True)


def test_an_unconfined_child_that_must_be_looks_at_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "limit", lambda *_: None)
    monkeypatch.setattr(probe, "confine", lambda *_: (Measure("seccomp", "the kernel has none"),))
    monkeypatch.setattr(probe, "examine", lambda *_: pytest.fail("it was looked at"))
    assert probe.main(["--must-confine"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["stage"] == "sandbox"
