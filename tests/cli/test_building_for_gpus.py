"""`edgeq build` for a GPU: here, where there is none, and for another box."""

from __future__ import annotations

import json

import pytest

from edgeq.engines.cuda.gpu import presence
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.compilers import real_compiler


@pytest.fixture
def quick(model, samples):
    return ["build", model, "--samples", samples, "--method", "max", "--no-refine"]


def test_kernels_for_another_box_need_no_gpu(edgeq, quick, tmp_path, monkeypatch):
    real_compiler(Target(87))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    out = tmp_path / "b"
    ran = edgeq(*quick, "--backend", "cuda", "--target", "sm_87", "--out", out)
    assert ran.code == 0, ran.err
    for words in ("cuda-int8", "for sm_87", "not tuned", "proven by cpu-int8 here", "on this box"):
        assert words in ran.out
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["backend"], manifest["engine"]) == ("cuda", "cuda-int8")
    assert manifest["details"]["target"] == "sm_87"
    assert manifest["details"]["tuned"] is False
    assert len(list((out / "cuda").glob("*.cubin"))) == manifest["details"]["kernels"]
    assert "target    sm_87" in (out / "cuda/plan.txt").read_text()


def test_the_json_has_what_the_engine_is(edgeq, quick, tmp_path, monkeypatch):
    real_compiler(Target(53))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    ran = edgeq(*quick, "--target", "sm_53", "--out", tmp_path / "b", "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert (result["backend"], result["engine"]["target"]) == ("cuda", "sm_53")
    assert {"compile", "verify", "bundle"} <= set(result["stages"])


def test_an_unknown_target_is_told_the_boards(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--target", "sm_99", "--out", tmp_path / "b")
    assert ran.code == 2
    assert "target 'sm_99' is unknown" in ran.err
    assert "Orin sm_87" in ran.err


def test_a_target_without_cuda_is_refused(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--target", "sm_87", "--backend", "cpu", "--out", tmp_path / "b")
    assert ran.code == 1
    assert "backend 'cpu' has no targets" in ran.err


@pytest.mark.skipif(not presence.why_not(), reason="there is a GPU here")
def test_without_a_gpu_the_backend_says_why_and_what_to_do(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--backend", "cuda", "--out", tmp_path / "b")
    assert ran.code == 1
    assert "no usable backend for 'cuda'" in ran.err
    assert "edgeq doctor" in ran.err
    assert "--target" in ran.err
