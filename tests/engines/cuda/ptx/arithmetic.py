"""Instructions that compute a register from registers, each as the PTX ISA defines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.engines.cuda.ptx.parser import Instruction, PtxFault, Vector
from tests.engines.cuda.ptx.threads import TYPES, Lanes, Threads

Step = Callable[[Lanes], None]
Decode = Callable[[Instruction, Threads], Step]

WIDER = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
ROUNDED: dict[str, Callable[[Any], Any]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def computed(
    instruction: Instruction,
    threads: Threads,
    result: str,
    sources: tuple[str, ...],
    compute: Callable[..., Any],
) -> Step:
    """Return the step that writes compute(sources) as the type `result`."""
    out, *inputs = instruction.operands
    write = threads.write(out, result)
    reads = [threads.read(i, t) for i, t in zip(inputs, sources, strict=True)]
    if len(reads) == 2:
        first, second = reads
        return lambda lanes: write(lanes, compute(first(lanes), second(lanes)))
    return lambda lanes: write(lanes, compute(*(read(lanes) for read in reads)))


def _alike(count: int, compute: Callable[..., Any]) -> Decode:
    """All operands and the result of the instruction's type."""

    def decode(instruction: Instruction, threads: Threads) -> Step:
        _only_rn(instruction)
        t = instruction.type
        return computed(instruction, threads, t, (t,) * count, compute)

    return decode


def _only_rn(instruction: Instruction) -> None:
    unsupported = {"ftz", "sat", "approx", "rz", "rm", "rp", "full", "cc", "xorsign"}
    if instruction.type == "f32" and unsupported & set(instruction.opcode):
        raise PtxFault(f"not exact IEEE arithmetic: {instruction.text}")


def _multiply(instruction: Instruction, threads: Threads) -> Step:
    t = instruction.type
    if "wide" in instruction.opcode:
        wide = TYPES[WIDER[t]]
        return computed(
            instruction, threads, WIDER[t], (t, t), lambda a, b: as_type(a, wide) * as_type(b, wide)
        )
    if "hi" in instruction.opcode:
        return computed(instruction, threads, t, (t, t), lambda a, b: _high(a, b, t))
    _only_rn(instruction)
    return computed(instruction, threads, t, (t, t), lambda a, b: a * b)


def _high(a: Any, b: Any, t: str) -> Any:
    if t[1:] == "64":
        raise PtxFault("mul.hi of 64 bits is not interpreted")
    wide = TYPES[WIDER[t]]
    return as_type(
        (as_type(a, wide) * as_type(b, wide)) >> wide(8 * np.dtype(TYPES[t]).itemsize), TYPES[t]
    )


def _multiply_add(instruction: Instruction, threads: Threads) -> Step:
    t = instruction.type
    if "wide" in instruction.opcode:
        wide = TYPES[WIDER[t]]
        return computed(
            instruction,
            threads,
            WIDER[t],
            (t, t, WIDER[t]),
            lambda a, b, c: as_type(a, wide) * as_type(b, wide) + c,
        )
    if "hi" in instruction.opcode:
        return computed(instruction, threads, t, (t, t, t), lambda a, b, c: _high(a, b, t) + c)
    return computed(instruction, threads, t, (t, t, t), lambda a, b, c: a * b + c)


def _fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """Round once: the product of two float32 is exact in float64, the sum nearly always."""
    exact = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    total = exact + np.asarray(c, np.float64)
    # Where the float64 sum itself was rounded to a tie of float32, break it as the rest says.
    rest = (exact - (total - np.asarray(c, np.float64))) + (
        np.asarray(c, np.float64) - (total - (total - np.asarray(c, np.float64)))
    )
    nudged = np.where(rest > 0, np.nextafter(total, np.inf), np.nextafter(total, -np.inf))
    odd = np.asarray(total).view(np.int64) & 1
    return np.where((rest != 0) & (odd == 0), nudged, total).astype(np.float32)


def _shift(left: bool) -> Decode:
    def decode(instruction: Instruction, threads: Threads) -> Step:
        t = instruction.type
        bits = 8 * np.dtype(TYPES[t]).itemsize

        def compute(a: Any, by: Any) -> Any:
            clamped = np.minimum(by, bits - 1).astype(TYPES[t])
            shifted = np.left_shift(a, clamped) if left else np.right_shift(a, clamped)
            gone = np.right_shift(a, clamped) if t[0] == "s" and not left else TYPES[t](0)
            return np.where(by >= bits, gone, shifted)

        return computed(instruction, threads, t, (t, "u32"), compute)

    return decode


COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "neu": lambda a, b: ~np.equal(a, b),
    "equ": lambda a, b: np.equal(a, b) | np.isnan(a) | np.isnan(b),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "ltu": lambda a, b: ~np.greater_equal(a, b),
    "leu": lambda a, b: ~np.greater(a, b),
    "gtu": lambda a, b: ~np.less_equal(a, b),
    "geu": lambda a, b: ~np.less(a, b),
}
COMBINED: dict[str, Callable[[Any, Any], Any]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


def _set_predicate(instruction: Instruction, threads: Threads) -> Step:
    compare = COMPARED[instruction.opcode[1]]
    t = instruction.type
    combine = COMBINED.get(instruction.opcode[2]) if len(instruction.opcode) > 3 else None
    out, a, b, *c = instruction.operands
    writes = [threads.write(name, "pred") for name in str(out).split("|")]
    first, second = threads.read(a, t), threads.read(b, t)
    third = threads.read(c[0], "pred") if c else None

    def step(lanes: Lanes) -> None:
        holds = compare(first(lanes), second(lanes))
        for write, value in zip(writes, (holds, ~np.asarray(holds)), strict=False):
            write(lanes, combine(value, third(lanes)) if combine and third else value)

    return step


def _select(instruction: Instruction, threads: Threads) -> Step:
    t = instruction.type
    return computed(
        instruction, threads, t, (t, t, "pred"), lambda a, b, chosen: np.where(chosen, a, b)
    )


def _convert(instruction: Instruction, threads: Threads) -> Step:
    *_, to, source = instruction.opcode
    modes = set(instruction.opcode[1:-2])
    if instruction.opcode[1:] == ("pack", "sat", "s8", "s32", "b32"):
        return computed(instruction, threads, "b32", ("s32", "s32", "b32"), _packed)
    if "pack" in modes or modes & {"ftz", "rz", "rm", "rp"} or "f64" in (to, source):
        raise PtxFault(f"a conversion that is not interpreted: {instruction.text}")
    rounded = next((ROUNDED[mode] for mode in modes if mode in ROUNDED), None)
    saturates = "sat" in modes

    def compute(a: Any) -> Any:
        if source == "f32" and to != "f32":
            return _saturated(rounded(a) if rounded else a, to)
        if rounded:
            return rounded(a)
        return _saturated(a, to) if saturates else as_type(a, TYPES[to])

    return computed(instruction, threads, to, (source,), compute)


def _packed(a: Any, b: Any, upper: Any) -> Any:
    """Return two bytes, saturated, beneath the lower half of a third operand."""
    high, low = (_saturated(v, "s8").view(np.uint8).astype(np.uint32) for v in (a, b))
    return (upper << np.uint32(16)) | (high << np.uint32(8)) | low


def _saturated(value: Any, to: str) -> Any:
    limit = np.iinfo(TYPES[to])
    exact = np.nan_to_num(np.asarray(value, np.float64), nan=0.0)
    return np.clip(exact, limit.min, limit.max).astype(TYPES[to])


def _move(instruction: Instruction, threads: Threads) -> Step:
    """Mov: also of the parts of a register to others, and back."""
    out, source = instruction.operands
    t = instruction.type
    if isinstance(source, Vector):
        return _pack(source, out, t, threads)
    if isinstance(out, Vector):
        return _unpack(source, out, t, threads)
    return computed(instruction, threads, t, (t,), lambda a: a)


def _part_type(t: str, parts: int) -> str:
    return f"b{int(t[1:]) // parts}"


def _pack(source: Vector, out: Any, t: str, threads: Threads) -> Step:
    part = _part_type(t, len(source.parts))
    reads = [threads.read(name, part) for name in source.parts]
    write = threads.write(out, t)

    def step(lanes: Lanes) -> None:
        columns = [np.broadcast_to(read(lanes), threads.size(lanes)) for read in reads]
        write(lanes, np.stack(columns, 1).view(TYPES[t])[:, 0])

    return step


def _unpack(source: Any, out: Vector, t: str, threads: Threads) -> Step:
    part = _part_type(t, len(out.parts))
    read = threads.read(source, t)
    writes = [threads.write(name, part) for name in out.parts]

    def step(lanes: Lanes) -> None:
        whole = np.ascontiguousarray(np.broadcast_to(read(lanes), threads.size(lanes)))
        parts = whole.view(TYPES[part]).reshape(len(whole), -1)
        for index, write in enumerate(writes):
            write(lanes, parts[:, index])

    return step


def _divide(a: Any, b: Any) -> Any:
    """C's integer division: towards zero."""
    if np.asarray(a).dtype.kind == "f":
        return a / b
    _refuse_zero(b)
    if np.asarray(a).dtype.kind == "u":
        return a // b
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


def _remainder(a: Any, b: Any) -> Any:
    _refuse_zero(b)
    return a - _divide(a, b) * b


def _refuse_zero(b: Any) -> None:
    if (np.asarray(b) == 0).any():
        raise PtxFault("a division by zero")


def as_type(value: Any, datatype: Any) -> Any:
    return np.asarray(value).astype(datatype)


ARITHMETIC: dict[str, Decode] = {
    "mov": _move,
    "add": _alike(2, lambda a, b: a + b),
    "sub": _alike(2, lambda a, b: a - b),
    "mul": _multiply,
    "mad": _multiply_add,
    "fma": _alike(3, _fused_multiply_add),
    "div": _alike(2, _divide),
    "rem": _alike(2, _remainder),
    "min": _alike(2, np.fmin),
    "max": _alike(2, np.fmax),
    "neg": _alike(1, np.negative),
    "abs": _alike(1, np.abs),
    "and": _alike(2, np.bitwise_and),
    "or": _alike(2, np.bitwise_or),
    "xor": _alike(2, np.bitwise_xor),
    "not": _alike(1, np.invert),
    "shl": _shift(left=True),
    "shr": _shift(left=False),
    "setp": _set_predicate,
    "selp": _select,
    "cvt": _convert,
}
