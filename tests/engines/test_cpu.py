"""The CPU engine is the runner under the name of its kind."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.base import Engine, EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.tflite.runtime import Runner
from tests import tiny


@pytest.mark.parametrize("kind", ["float", "cpu-int8"])
def test_an_engine_answers_as_its_runner(tiny_model_bytes: bytes, kind: EngineKind) -> None:
    engine: Engine = CpuEngine(tiny_model_bytes, kind, threads=1)
    runner = Runner(tiny_model_bytes)
    assert engine.kind == kind
    assert (engine.inputs, engine.outputs) == (runner.inputs, runner.outputs)
    expected = runner.run(tiny.tiny_inputs())["scores"]
    np.testing.assert_array_equal(engine.infer(tiny.tiny_inputs())["scores"], expected)
    engine.close()


def test_two_threads_give_what_one_gives(tiny_model_bytes: bytes) -> None:
    results = [
        CpuEngine(tiny_model_bytes, "float", threads=threads).infer(tiny.tiny_inputs())["scores"]
        for threads in (1, 2)
    ]
    np.testing.assert_array_equal(results[0], results[1])


def test_errors_are_the_runners(tiny_model_bytes: bytes) -> None:
    with pytest.raises(EngineError, match="refuses"):
        CpuEngine(b"", "float", threads=1)
    with pytest.raises(InvalidRequestError, match="missing"):
        CpuEngine(tiny_model_bytes, "float", threads=1).infer({})
