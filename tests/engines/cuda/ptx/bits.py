"""Instructions that compute on bits and bytes, each as the PTX ISA defines it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.engines.cuda.ptx.arithmetic import Decode, Step, as_type, computed
from tests.engines.cuda.ptx.parser import Instruction, PtxFault
from tests.engines.cuda.ptx.threads import TYPES, Array, Threads


def _funnel(instruction: Instruction, threads: Threads) -> Step:
    """shf: of (high, low), by bits modulo 32 (wrap) or at most 32 (clamp)."""
    left, wraps = "l" in instruction.opcode, "wrap" in instruction.opcode

    def compute(low: Any, high: Any, by: Any) -> Any:
        both = (as_type(high, np.uint64) << np.uint64(32)) | as_type(low, np.uint64)
        count = as_type(by & np.uint32(31) if wraps else np.minimum(by, np.uint32(32)), np.uint64)
        if left:
            return as_type((both << count) >> np.uint64(32), np.uint32)
        return as_type(both >> count, np.uint32)

    return computed(instruction, threads, "b32", ("b32", "b32", "u32"), compute)


def _logic3(instruction: Instruction, threads: Threads) -> Step:
    table = int(str(instruction.operands[-1]), 0)

    def compute(a: Any, b: Any, c: Any, _: Any) -> Any:
        result = np.zeros_like(a | b | c)
        for row in range(8):
            if table >> row & 1:
                result = result | (
                    (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
                )
        return result

    return computed(instruction, threads, "b32", ("b32", "b32", "b32", "b32"), compute)


def _permute(instruction: Instruction, threads: Threads) -> Step:
    def compute(a: Any, b: Any, selector: Any) -> Any:
        both = as_type(a, np.uint64) | (as_type(b, np.uint64) << np.uint64(32))
        result = np.zeros_like(both)
        for place in range(4):
            pick = as_type(selector, np.uint64) >> np.uint64(4 * place) & np.uint64(15)
            byte = both >> (np.uint64(8) * (pick & np.uint64(7))) & np.uint64(255)
            sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
            byte = np.where(pick & np.uint64(8), sign, byte)
            result = result | byte << np.uint64(8 * place)
        return as_type(result, np.uint32)

    return computed(instruction, threads, "b32", ("b32", "b32", "b32"), compute)


def _dot_product(instruction: Instruction, threads: Threads) -> Step:
    a_type, b_type = (f"{t[0]}8" for t in instruction.opcode[-2:])

    def compute(a: Any, b: Any, c: Any) -> Any:
        products = _bytes(a, a_type) * _bytes(b, b_type)
        return products.sum(-1, dtype=np.int32) + c

    return computed(instruction, threads, "s32", ("b32", "b32", "s32"), compute)


def _half_dot_product(instruction: Instruction, threads: Threads) -> Step:
    """Multiply two 16-bit numbers by the lower or upper two bytes, and add both products."""
    a_type, b_type = f"{instruction.opcode[-2][0]}16", f"{instruction.opcode[-1][0]}8"
    half = slice(0, 2) if instruction.opcode[1] == "lo" else slice(2, 4)

    def compute(a: Any, b: Any, c: Any) -> Any:
        products = _bytes(a, a_type) * _bytes(b, b_type)[:, half]
        return products.sum(-1, dtype=np.int32) + c

    return computed(instruction, threads, "s32", ("b32", "b32", "s32"), compute)


def _bytes(a: Any, t: str) -> Array:
    words = np.ascontiguousarray(np.atleast_1d(a))
    return words.view(TYPES[t]).reshape(len(words), -1).astype(np.int32)


def _extract(instruction: Instruction, threads: Threads) -> Step:
    """Bfe: `length` bits from `position` on, with the sign where the type has one."""
    t = instruction.type
    if t[1:] != "32":
        raise PtxFault(f"not interpreted: {instruction.text}")

    def compute(a: Any, position: Any, length: Any) -> Any:
        position, length = as_type(position & 255, np.int64), as_type(length & 255, np.int64)
        wide = as_type(a, np.int64)
        kept = wide >> np.minimum(position, 63) & ((np.int64(1) << np.minimum(length, 62)) - 1)
        if t[0] == "s":
            top = np.minimum(position + length - 1, 31)
            sign = (wide >> np.maximum(top, 0) & 1).astype(bool) & (length > 0)
            kept = np.where(sign, kept | ~((np.int64(1) << np.minimum(length, 62)) - 1), kept)
        return as_type(kept, TYPES[t])

    return computed(instruction, threads, t, (t, "u32", "u32"), compute)


def _insert(instruction: Instruction, threads: Threads) -> Step:
    def compute(a: Any, b: Any, position: Any, length: Any) -> Any:
        at, count = as_type(position & 255, np.uint64), as_type(length & 255, np.uint64)
        ones = (np.uint64(1) << np.minimum(count, np.uint64(32))) - np.uint64(1)
        mask = ones << np.minimum(at, np.uint64(63))
        moved = as_type(a, np.uint64) << np.minimum(at, np.uint64(63))
        return as_type((as_type(b, np.uint64) & ~mask) | (moved & mask), np.uint32)

    return computed(instruction, threads, "b32", ("b32", "b32", "u32", "u32"), compute)


def _count(kind: str) -> Decode:
    def compute(a: Any) -> Any:
        words = np.ascontiguousarray(np.atleast_1d(a)).view(np.uint8).reshape(-1, 4)
        bits = np.unpackbits(words[:, ::-1], axis=1)  # the highest first
        if kind == "popc":
            return bits.sum(1, dtype=np.uint32)
        if kind == "brev":
            packed = np.packbits(bits[:, ::-1], axis=1)[:, ::-1]
            return np.ascontiguousarray(packed).view(np.uint32)[:, 0]
        return np.where(bits.any(1), bits.argmax(1), 32).astype(np.uint32)

    return lambda i, threads: computed(i, threads, "b32", ("b32",), compute)


BITS: dict[str, Decode] = {
    "shf": _funnel,
    "lop3": _logic3,
    "prmt": _permute,
    "dp4a": _dot_product,
    "dp2a": _half_dot_product,
    "bfe": _extract,
    "bfi": _insert,
    "popc": _count("popc"),
    "clz": _count("clz"),
    "brev": _count("brev"),
}
