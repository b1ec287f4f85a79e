"""Engines serve only after they are warm and have proved themselves; failed ones are freed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeq.bundle import Golden
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError, SwapError
from edgeq.swap import SwapOptions
from edgeq.swap.pool import Pool, Source, close_engines, load_pool
from edgeq.tflite.runtime import TensorSpec
from tests.swap.fakes import INPUTS, FakeEngine
from tests.tiny import Array

GOLDEN = Golden((INPUTS, {"x": INPUTS["x"] + 1}), ({"y": INPUTS["x"]}, {"y": INPUTS["x"] + 1}))


def loader(*engines: FakeEngine) -> Callable[[], FakeEngine]:
    rest = iter(engines)
    return lambda: next(rest)


def load(engines: tuple[FakeEngine, ...], golden: Golden | None, warmup_runs: int) -> Pool:
    source = Source("1", loader(*engines), golden)
    return load_pool(source, SwapOptions(instances=len(engines), warmup_runs=warmup_runs))


def test_every_instance_is_warmed_and_checked() -> None:
    engines = FakeEngine(), FakeEngine()
    pool = load(engines, GOLDEN, warmup_runs=3)
    assert tuple(instance.engine for instance in pool.instances) == engines
    assert [engine.runs for engine in engines] == [5, 5]  # 3 warm-up runs, 2 golden inputs


def test_without_golden_answers_zeros_warm_the_engine() -> None:
    engine = FakeEngine()
    engine.inputs = (
        TensorSpec("image", (1, -1, 3), np.dtype("u1")),
        TensorSpec("scale", (), np.dtype("f4")),
    )
    seen: list[dict[str, Array]] = []
    engine.infer = lambda inputs: seen.append(dict(inputs)) or {}  # type: ignore[method-assign]
    load((engine,), None, warmup_runs=1)
    assert {name: (v.shape, str(v.dtype), v.any()) for name, v in seen[0].items()} == {
        "image": ((1, 1, 3), "uint8", False),
        "scale": ((), "float32", False),
    }


def test_an_engine_that_answers_wrongly_is_refused_and_all_are_freed() -> None:
    engines = FakeEngine(), FakeEngine(factor=1.5)
    with pytest.raises(SwapError, match=r"cpu-int8 .* golden answers: output 'y'") as caught:
        load(engines, GOLDEN, 0)
    assert "Build the bundle again" in caught.value.hint
    assert [engine.is_closed for engine in engines] == [True, True]


def test_what_is_loaded_before_a_failure_is_freed() -> None:
    first, second = FakeEngine(), FakeEngine()
    second.fail = lambda: EngineError("no memory")
    with pytest.raises(EngineError, match="no memory"):
        load((first, second), None, 1)
    assert first.is_closed
    assert second.is_closed


def test_an_engine_that_cannot_be_freed_does_not_keep_the_others() -> None:
    bad, good = FakeEngine(), FakeEngine()

    def fail() -> None:
        raise EngineError("the driver is gone")

    bad.close = fail  # type: ignore[method-assign]
    close_engines([bad, good])
    assert good.is_closed


def test_float_outputs_are_watched_for_what_is_not_finite() -> None:
    pool = load((FakeEngine(),), None, 0)
    largest = np.full((1, 2), np.finfo(np.float32).max)
    assert pool.is_finite({"y": largest})
    assert pool.is_finite({"y": np.zeros((0, 2), "f4"), "other": np.array([np.nan])})
    for value in (np.nan, np.inf, -np.inf):
        assert not pool.is_finite({"y": np.array([[1.0, value]], "f4")})


def test_an_output_that_is_rightly_infinite_is_not_watched() -> None:
    engine = FakeEngine()
    engine.answer = {"y": np.array([[0.0, -np.inf]], "f4")}
    golden = Golden((INPUTS,), (engine.answer,))
    pool = load((engine,), golden, 0)
    assert pool.is_finite({"y": np.array([[0.0, -np.inf]], "f4")})


def test_a_real_engine_reproduces_its_own_answers(
    tiny_model_bytes: bytes, tiny_inputs: dict[str, Array]
) -> None:
    def make() -> CpuEngine:
        return CpuEngine(tiny_model_bytes, "float", threads=1)

    golden = Golden((tiny_inputs,), (make().infer(tiny_inputs),))
    pool = load_pool(Source("1", make, golden), SwapOptions(instances=2))
    assert [spec.name for spec in pool.info.inputs] == ["image"]
    assert pool.watched == {"scores"}
    pool.close()
