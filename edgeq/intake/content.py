"""The first bytes of a drop -> what it is instead of a TFLite model, in words for people."""

from __future__ import annotations

import string
from dataclasses import dataclass

from edgeq.tflite.model import FILE_IDENTIFIER

HEAD_BYTES = 512  # enough for every test below
_PRINTABLE = frozenset(string.printable.encode())


@dataclass(frozen=True)
class Mistake:
    """What a file is, and one sentence on what to do."""

    what: str
    hint: str


_CONVERT = "Convert it to .tflite first."
_UNPACK = "Unpack it and drop the .tflite file inside."
_PREFIXES = (
    (b"PK\x03\x04", Mistake("a zip archive", _UNPACK)),
    (b"\x1f\x8b", Mistake("gzip-compressed", _UNPACK)),
    (b"\xfd7zXZ\x00", Mistake("xz-compressed", _UNPACK)),
    (b"BZh", Mistake("bzip2-compressed", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Mistake("zstd-compressed", _UNPACK)),
    (b"\x89HDF", Mistake("an HDF5 file, as Keras saves it", _CONVERT)),
    (b"\x08\x01\x12", Mistake("a TensorFlow SavedModel", _CONVERT)),
    (b"\x7fELF", Mistake("a program or library (ELF)", "Drop a .tflite file.")),
    (
        b"version https://git-lfs",
        Mistake("a Git LFS pointer, not the file it stands for", "Run `git lfs pull`, then copy."),
    ),
)


def recognize(head: bytes, size: int) -> Mistake | None:
    """Return what a file of `size` bytes is by its first ones; None for a TFLite model."""
    if size == 0:
        return Mistake("empty", "Copy the file again, completely.")
    if head[4:8] == FILE_IDENTIFIER:
        return None
    for prefix, mistake in _PREFIXES:
        if head.startswith(prefix):
            return mistake
    if _is_onnx(head):
        return Mistake("an ONNX model", _CONVERT)
    if not any(head):
        return Mistake("all zeros at its start: not written yet", "Copy it again, completely.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return Mistake("an HTML page", "Download the raw file, not the page that shows it.")
    if all(byte in _PRINTABLE for byte in head):
        return Mistake(f"text: {head[:40].decode('ascii')!r}", "Drop a .tflite file.")
    return Mistake(
        f"not a TFLite model: it starts with {head[:8]!r}, and has no 'TFL3' at byte 4",
        "Drop the .tflite file itself, completely copied.",
    )


def _is_onnx(head: bytes) -> bool:
    """An ONNX ModelProto starts with ir_version (3 to 15), then a name, version or graph."""
    return (
        len(head) > 2 and head[0] == 0x08 and 3 <= head[1] <= 15 and head[2] in b"\x12\x1a\x3a\x42"
    )
