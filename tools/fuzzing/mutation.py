"""Valid inputs -> damaged ones: the corpus grows by those that end somewhere new."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

MOST_BYTES = 1 << 16
MOST_KEPT = 400
NUMBERS = (0, 1, 2, 4, 8, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
WORDS = (
    b"null", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b"[[[[", b'""', b"\0", b"\xff\xfe",
    b"\r\n",    b"../..", b"%00", b"9" * 30, b"\xf0\x9f\x98\x80", b": ",
    b"&a *a", b"true", b"Infinity",
)  # fmt: skip
WORD = re.compile(rb"[A-Za-z0-9_.-]+")

Step = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutate(draw: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return one of the corpus with one to eight things done to it."""
    content = bytearray(draw.choice(corpus))
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        draw.choice(STEPS)(draw, content, corpus)
    return bytes(content[:MOST_BYTES])


def _place(draw: random.Random, content: bytearray) -> int:
    return draw.randrange(len(content)) if content else 0


def _flip(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[_place(draw, content)] ^= 1 << draw.randrange(8)


def _set(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[_place(draw, content)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _number(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    form, limit = draw.choice((("<H", 2**16), ("<I", 2**32), ("<Q", 2**64), (">I", 2**32)))
    packed = struct.pack(form, draw.choice(NUMBERS) % limit)
    at = _place(draw, content) // 4 * 4
    content[at : at + len(packed)] = packed


def _cut(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[_place(draw, content) :]


def _drop(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at = _place(draw, content)
    del content[at : at + draw.choice((1, 2, 4, 16, 256))]


def _repeat(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at = _place(draw, content)
    piece = content[at : at + draw.choice((1, 4, 16, 64))]
    content[at:at] = piece * draw.choice((1, 2, 50))


def _splice(draw: random.Random, content: bytearray, corpus: Sequence[bytes]) -> None:
    other = draw.choice(corpus)
    at, start = _place(draw, content), draw.randrange(len(other) + 1)
    content[at:] = other[start:]


def _word(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    """Put a nasty word in the place of one that is there."""
    window = max(0, _place(draw, content) - 40)
    found = WORD.search(content, window)
    start, end = found.span() if found else (0, 0)
    content[start:end] = draw.choice(WORDS)


def _insert(draw: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at = _place(draw, content)
    content[at:at] = draw.choice(WORDS)


STEPS: tuple[Step, ...] = (
    _flip, _flip, _set, _set, _number, _number, _cut, _drop, _repeat, _splice, _word, _word,
    _insert,
)  # fmt: skip
