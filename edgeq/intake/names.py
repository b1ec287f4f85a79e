"""A file's name in the drop folder -> the model's name, or why it cannot be one."""

from __future__ import annotations

import hashlib
import re

MODEL_SUFFIX = ".tflite"
SIDECAR_SUFFIX = ".yaml"
SIGNATURE_SUFFIX = ".minisig"
STATUS_SUFFIX = ".status.json"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_UNFINISHED = (".part", ".tmp", ".swp", "~")  # what rsync, browsers and editors write first


def is_model_name(name: str) -> bool:
    """True where `name` is 1 to 128 of A-Z a-z 0-9 . _ - and does not start with a dot."""
    return _NAME.fullmatch(name) is not None


def is_ignored(file_name: str) -> bool:
    """True for hidden files and those that a writer has not finished."""
    return file_name.startswith(".") or file_name.endswith(_UNFINISHED)


def safe_name(name: str) -> str:
    """Return `name`, or where it cannot be a model's name one that can, made from it."""
    if is_model_name(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:100] + f"-{digest}"
