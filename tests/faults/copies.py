"""A sound model -> seeded copies of it as a bad transfer leaves them, by kind of damage."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.tflite.damage import bytes_changed, cut, structural_bytes

Damage = Callable[[random.Random, bytes, Sequence[int]], bytes]


@dataclass(frozen=True)
class Copy:
    """One damaged copy."""

    number: int
    kind: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def damaged_copies(content: bytes, count: int, seed: int) -> list[Copy]:
    """Return `count` copies, each another file than the sound one, the kinds in their shares."""
    draw, places = random.Random(seed), structural_bytes(content)
    copies = []
    for number in range(count):
        kind, damage = _kind_of(number, count)
        damaged = content
        while damaged == content:
            damaged = damage(draw, content, places)
        copies.append(Copy(number, kind, damaged))
    return copies


def _byte_changed(draw: random.Random, content: bytes, _: Sequence[int]) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(changed)


def _tail_zeroed(draw: random.Random, content: bytes, _: Sequence[int]) -> bytes:
    kept = draw.randrange(len(content))
    return content[:kept] + bytes(len(content) - kept)


KINDS: tuple[tuple[str, int, Damage], ...] = (  # of 690
    ("truncated", 120, cut),
    ("1-8 structural bytes", 300, bytes_changed),
    ("one byte", 150, _byte_changed),
    ("zeroed tail", 120, _tail_zeroed),
)
WHOLE = sum(share for _, share, _ in KINDS)


def _kind_of(number: int, count: int) -> tuple[str, Damage]:
    """Return the kind of copy `number` of `count`, so that every prefix of the kinds is filled."""
    place = number * WHOLE // count
    for kind, share, damage in KINDS:
        if place < share:
            return kind, damage
        place -= share
    raise AssertionError(f"{number} of {count}")
