"""Every usable backend is built, proven and timed; the fastest that passes serves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.pipeline import build
from edgeq.engines import table
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import CPU, Backend, Files, Made, Wish
from edgeq.errors import EngineError, GateError
from tests.build_samples import drawn, from_list
from tests.engines.op_case import Graph

QUICK = {"method": "max", "refine": False}
DETAILS = {"target": "sm_87", "kernels": 3, "tuned": True, "tuning": "", "cpu_ops": []}


class Stand:
    """An engine beside the CPU's: the same answers, later, or others."""

    def __init__(self, content: bytes, *, delay_s: float = 0.0, wrong: bool = False) -> None:
        self._engine = CpuEngine(content, "cuda-int8", threads=1)
        self.kind, self.fault = self._engine.kind, ""
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs
        self._delay_s, self._wrong = delay_s, wrong

    def infer(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        time.sleep(self._delay_s)
        answers = self._engine.infer(inputs)
        return {k: np.roll(v, 1, -1) if self._wrong else v for k, v in answers.items()}

    def close(self) -> None:
        self._engine.close()


def _gpu(load: Callable[[bytes], Engine], made: Made | None = None) -> Backend:
    def make(content: bytes, wish: Wish) -> Made:
        for tick in (wish.compiled, wish.tuned):
            if tick is not None:
                tick(1, 2)
        return made or Made({"cuda/package.json": b"{}"}, {**DETAILS, "asked": wish.target})

    def loaded(content: bytes, threads: int, files: Files) -> Engine:
        assert files("cuda/package.json") is not None
        return load(content)

    return Backend("cuda", loaded, lambda: "", make, has_own_kernels=True)


@pytest.fixture
def deploy(digits_model, digits_samples, tmp_path, monkeypatch):
    def run(gpu: Backend, **options: Any) -> BuildResult:
        monkeypatch.setattr(table, "BACKENDS", (gpu, CPU))
        monkeypatch.setattr("edgeq.build.deploying.CUDA", gpu)
        out = tmp_path / "b"
        return build(digits_model, from_list(digits_samples), out, BuildOptions(**QUICK, **options))

    return run


def test_the_faster_backend_serves(deploy) -> None:
    result = deploy(_gpu(lambda content: Stand(content, delay_s=0.01)))
    assert (result.backend, result.bundle.manifest.engine) == ("cpu", "cpu-int8")
    assert [figure.engine for figure in result.latency] == ["float", "cuda-int8", "cpu-int8"]
    assert not result.bundle.has("cuda/package.json")


def test_the_gpu_s_bundle_holds_its_files_and_says_what_they_are(deploy) -> None:
    result = deploy(_gpu(Stand), backend="cuda")
    manifest = result.bundle.manifest
    assert (result.backend, manifest.backend, manifest.engine) == ("cuda", "cuda", "cuda-int8")
    assert manifest.details == {**DETAILS, "asked": ""}
    assert result.as_dict()["engine"] == manifest.details
    assert result.bundle.read("cuda/package.json") == b"{}"
    assert {"compile", "tune", "engine", "verify", "latency"} <= set(result.stages)
    assert json.loads(result.bundle.read("verdict.json"))["latency"][1]["engine"] == "cuda-int8"


def test_a_backend_whose_answers_are_wrong_does_not_serve(deploy) -> None:
    result = deploy(_gpu(lambda content: Stand(content, wrong=True)))
    assert result.backend == "cpu"
    assert result.bundle.manifest.details["refused"]["cuda"].startswith("the cuda-int8 engine was")


def test_a_backend_that_cannot_be_loaded_does_not_serve(deploy) -> None:
    def broken(_: bytes) -> Engine:
        raise EngineError("no kernel for this")

    result = deploy(_gpu(broken))
    assert (result.backend, dict(result.details)) == (
        "cpu",
        {"refused": {"cuda": "no kernel for this"}},
    )


def test_the_only_backend_asked_for_is_refused_with_its_reason(deploy) -> None:
    with pytest.raises(GateError, match="the cuda-int8 engine was refused: ") as caught:
        deploy(_gpu(lambda content: Stand(content, wrong=True)), backend="cuda")
    assert "--backend cpu" in caught.value.hint


def test_kernels_for_another_box_are_proven_by_the_cpu(deploy) -> None:
    def untouched(_: bytes) -> Engine:
        raise AssertionError("there is no such device here")

    result = deploy(_gpu(untouched), target="sm_87")
    manifest = result.bundle.manifest
    assert (manifest.backend, manifest.engine) == ("cuda", "cuda-int8")
    assert manifest.details["asked"] == "sm_87"
    assert manifest.details["proven_by"] == "cpu-int8"
    assert [figure.engine for figure in result.latency] == ["float", "cpu-int8"]


def test_a_target_without_the_gpu_is_refused(deploy) -> None:
    with pytest.raises(EngineError, match="backend 'cpu' has no targets"):
        deploy(_gpu(Stand), backend="cpu", target="sm_87")


def test_the_cpu_is_spared_the_int8_kernels_that_it_is_slow_in(tmp_path, monkeypatch) -> None:
    g = Graph({"x0": (1, 16, 16, 16)})
    shape = (1, 16, 16, 16)
    convolved = g.apply(
        "CONV_2D", [g.inputs[0], g.weights((16, 1, 1, 16), 0), g.bias(16)], shape,
        options="Conv2DOptions", strideW=1, strideH=1,
    )  # fmt: skip
    content = g.finish(g.op("HARD_SWISH", [convolved], ("y", shape))).to_bytes()
    gpu = _gpu(lambda content: Stand(content, delay_s=0.01))
    monkeypatch.setattr(table, "BACKENDS", (gpu, CPU))
    source = from_list(drawn(24, x0=shape))
    on_cpu = build(content, source, tmp_path / "cpu", BuildOptions(**QUICK))
    assert (on_cpu.backend, [op.name for op in on_cpu.float_ops]) == ("cpu", ["HARD_SWISH"])
    assert {f.engine for f in on_cpu.latency} == {"float", "cpu-int8", "cuda-int8"}
    on_gpu = build(content, source, tmp_path / "gpu", BuildOptions(**QUICK, backend="cuda"))
    assert (on_gpu.backend, on_gpu.float_ops) == ("cuda", ())
