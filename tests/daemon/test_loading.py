"""What a bundle holds is loaded; a GPU that went away does not silence the box."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.bundle import Bundle, Manifest, write_bundle
from edgeq.daemon.loading import bundle_bytes, load_engine
from edgeq.engines import table
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import CPU, Backend, Files
from edgeq.errors import EngineError
from edgeq.swap.memory import engine_bytes
from tests import tiny


@pytest.fixture
def bundle(tiny_model_bytes: bytes, tmp_path: Path) -> Bundle:
    manifest = Manifest(
        name="m", engine="cuda-int8", backend="cuda", method="max", model_sha256="", samples=0,
        runtime="", edgeq="",
    )  # fmt: skip
    files = {"int8.tflite": tiny_model_bytes, "cuda/package.json": b"{}"}
    return write_bundle(tmp_path / "b", files, manifest)


def test_the_backend_gets_the_files_of_its_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(content: bytes, threads: int, files: Files) -> CpuEngine:
        assert (files("cuda/package.json"), files("cuda/none")) == (b"{}", None)
        return CpuEngine(content, "cuda-int8", threads=threads)

    monkeypatch.setattr(table, "BACKENDS", (Backend("cuda", load, lambda: ""), CPU))
    engine = load_engine(bundle, 1)
    assert engine.kind == "cuda-int8"
    engine.close()


def test_a_gpu_that_went_away_leaves_the_model_to_the_cpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Backend("cuda", lambda *_: pytest.fail("loaded"), lambda: "the driver is gone")
    monkeypatch.setattr(table, "BACKENDS", (gone, CPU))
    engine = load_engine(bundle, 1)
    assert engine.kind == "cpu-int8"
    assert engine.infer(tiny.tiny_inputs())["scores"].shape == (1, 4)
    engine.close()
    (said,) = caplog.records
    assert said.message == "serving on the CPU"
    assert "the driver is gone" in said.__dict__["reason"]


def test_without_a_cpu_runtime_there_is_nothing_to_fall_back_to(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Backend("cpu", lambda *_: pytest.fail("loaded"), lambda: "no runtime")
    monkeypatch.setattr(table, "BACKENDS", (gone,))
    changed = Bundle(bundle.directory, bundle.manifest.__class__(
        **{**bundle.manifest.__dict__, "backend": "cpu"}))  # fmt: skip
    with pytest.raises(EngineError, match="no runtime"):
        load_engine(changed, 1)


def test_what_a_gpu_loads_beside_the_model_counts_twice(
    bundle: Bundle, tiny_model_bytes: bytes
) -> None:
    package = bundle.manifest.files["cuda/package.json"].bytes
    assert bundle_bytes(bundle) == engine_bytes(tiny_model_bytes) + 2 * package
