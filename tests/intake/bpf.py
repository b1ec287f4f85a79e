"""A filter and a system call -> the kernel's verdict: classic BPF as seccomp runs it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

INSTRUCTION = struct.Struct("=HBBI")


def verdict(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Run the program over seccomp_data (linux/seccomp.h); return what it answers.

    Raises:
        IndexError: it runs off its end, or reads outside the data.
    """
    padded = [value & (1 << 64) - 1 for value in [*arguments, *[0] * 6][:6]]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *padded)
    instructions = list(INSTRUCTION.iter_unpack(program))
    accumulator, place = 0, 0
    while True:
        code, if_true, if_false, operand = instructions[place]
        place += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            if operand % 4 or operand + 4 > len(data):
                raise IndexError(f"{operand} lies outside seccomp_data")
            (accumulator,) = struct.unpack_from("=I", data, operand)
            continue
        holds = {
            0x15: accumulator == operand,
            0x35: accumulator >= operand,
            0x45: bool(accumulator & operand),
        }[code]
        place += if_true if holds else if_false
