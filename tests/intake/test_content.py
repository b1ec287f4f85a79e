from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from edgeq.intake.content import HEAD_BYTES, recognize

ONNX = b"\x08\x08\x12\x07pytorch\x1a\x051.0.0"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 131\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (POINTER, "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"\n  <html>", "HTML page"),
        (b"PK\x03\x04rest", "zip archive"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (ONNX, "ONNX"),
        (b"\x08\x01\x12\xff", "SavedModel"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x7fELF\x02", "ELF"),
        (bytes(100), "all zeros"),
        (b"hello world", "text: 'hello world'"),
        (b"\x1c\x00\x00\x00TFL2\x00\xff", "no 'TFL3' at byte 4"),
        (b"TFL3", "text"),
    ],
)
def test_what_is_no_model_is_named(content: bytes, what: str) -> None:
    mistake = recognize(content[:HEAD_BYTES], len(content))
    assert mistake is not None
    assert what in mistake.what
    assert mistake.hint.endswith(".")


def test_a_model_is_no_mistake(tiny_model_bytes: bytes) -> None:
    assert recognize(tiny_model_bytes[:HEAD_BYTES], len(tiny_model_bytes)) is None


@pytest.mark.shared
def test_real_models_and_traps_are_told_apart(shared: Path) -> None:
    def what(path: Path) -> str:
        mistake = recognize(path.read_bytes()[:HEAD_BYTES], path.stat().st_size)
        return mistake.what if mistake else ""

    data = shared / "data"
    assert "Git LFS" in what(data / "traps" / "ad_large_int8.tflite")
    assert [what(path) for path in data.glob("models/*.onnx")] == ["an ONNX model"] * 2
    assert {what(path) for path in data.glob("models/*.tflite")} == {""}
