"""A backend is taken by name or by the table's order, and says why it cannot be."""

from __future__ import annotations

import pytest

from edgeq.engines import table
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import BACKENDS, Backend, choose_backend, load_float
from edgeq.errors import EngineError
from tests import tiny


def _broken(content: bytes, threads: int) -> CpuEngine:
    raise EngineError("never loaded")


def test_the_float_model_runs_on_the_cpu(tiny_model_bytes: bytes) -> None:
    engine = load_float(tiny_model_bytes)
    assert engine.kind == "float"
    assert engine.infer(tiny.tiny_inputs())["scores"].shape == (1, 4)


def test_the_cpu_backend_is_usable_and_loads_int8(tiny_model_bytes: bytes) -> None:
    backend = choose_backend("cpu")
    assert backend.why_not() == ""
    assert backend.load(tiny_model_bytes, 1).kind == "cpu-int8"


def test_names_are_unique() -> None:
    names = [backend.name for backend in BACKENDS]
    assert len(set(names)) == len(names)


def test_auto_takes_the_first_usable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Backend("a", _broken, lambda: "no device"), Backend("b", _broken, lambda: "")
    third = Backend("c", _broken, lambda: "")
    monkeypatch.setattr(table, "BACKENDS", (first, second, third))
    assert choose_backend("auto") is second
    assert choose_backend("c") is third


def test_an_unknown_backend_is_told_the_known_ones() -> None:
    with pytest.raises(EngineError, match=r"backend 'tpu' is unknown; there are auto, .*cpu"):
        choose_backend("tpu")


def test_a_backend_that_is_not_usable_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BACKENDS", (Backend("a", _broken, lambda: "no device"),))
    for requested in ("a", "auto"):
        with pytest.raises(EngineError, match=f"'{requested}': a: no device") as caught:
            choose_backend(requested)
        assert "doctor" in caught.value.hint


def test_without_a_runtime_the_cpu_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise EngineError("no TFLite runtime is installed")

    monkeypatch.setattr(table, "runtime_version", missing)
    with pytest.raises(EngineError, match="cpu: no TFLite runtime is installed"):
        choose_backend("cpu")
