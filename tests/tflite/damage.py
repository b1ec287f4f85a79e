"""Seeded damage to a model file, where it hurts: outside the constants' values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from edgeq.tflite.model import Model


def structural_bytes(content: bytes) -> list[int]:
    """Return the positions that hold structure: all but the values of constants."""
    base = _address(np.frombuffer(content, np.uint8))
    is_structure = np.ones(len(content), bool)
    for buffer in Model.from_bytes(content).proto.buffers:
        if buffer.data is not None and len(buffer.data):
            start = _address(buffer.data) - base
            is_structure[start : start + len(buffer.data)] = False
    return [int(position) for position in np.flatnonzero(is_structure)]


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def damaged(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield files cut short, with 1 to 8 structural bytes or words changed, or all random."""
    source = random.Random(seed)
    places = structural_bytes(content)
    kinds = (cut, bytes_changed, _words_changed, _noise)
    for index in range(count):
        yield kinds[index % len(kinds)](source, content, places)


def cut(source: random.Random, content: bytes, _: Sequence[int]) -> bytes:
    """End it anywhere."""
    return content[: source.randrange(len(content))]


def bytes_changed(source: random.Random, content: bytes, places: Sequence[int]) -> bytes:
    """Change 1 to 8 structural bytes."""
    result = bytearray(content)
    for _ in range(source.randint(1, 8)):
        result[source.choice(places)] = source.randrange(256)
    return bytes(result)


def _words_changed(source: random.Random, content: bytes, places: list[int]) -> bytes:
    """Write what offsets and lengths fear: 0, the largest, the file's own length."""
    result = bytearray(content)
    size = len(content)
    for _ in range(source.randint(1, 8)):
        place = source.choice(places) & ~3
        word = source.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, size, size - 4,
                              source.randrange(size), source.randrange(1 << 32)])  # fmt: skip
        result[place : place + 4] = word.to_bytes(4, "little")
    return bytes(result)


def _noise(source: random.Random, content: bytes, _: list[int]) -> bytes:
    return content[:8] + source.randbytes(source.randrange(2000))
