"""The registers of every thread of a grid, as numpy vectors: one lane for each thread."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.engines.cuda.ptx.memory import Integers
from tests.engines.cuda.ptx.parser import Address, Operand, PtxFault, PtxKernel, Vector

Array = npt.NDArray[Any]
Lanes = Any  # an index array, or slice(None) for all
Read = Callable[[Lanes], Any]
Write = Callable[[Lanes, Any], None]

TYPES: dict[str, type[np.generic]] = {
    "pred": np.bool_,
    "b8": np.uint8,
    "u8": np.uint8,
    "s8": np.int8,
    "b16": np.uint16,
    "u16": np.uint16,
    "s16": np.int16,
    "b32": np.uint32,
    "u32": np.uint32,
    "s32": np.int32,
    "f32": np.float32,
    "b64": np.uint64,
    "u64": np.uint64,
    "s64": np.int64,
    "f64": np.float64,
}
# What a register of a type is kept as.
_KEPT = {"pred": np.bool_, "8": np.uint8, "16": np.uint16, "32": np.uint32, "64": np.uint64}


def kept_type(type_name: str) -> type[np.generic]:
    return _KEPT["pred" if type_name == "pred" else type_name[1:]]


class Threads:
    """All threads of a grid (or of a part of its blocks), in the order of blocks."""

    def __init__(
        self,
        kernel: PtxKernel,
        parameters: dict[str, int],
        grid: tuple[int, int, int],
        blocks: range,
        threads_in_block: int,
    ) -> None:
        self.kernel = kernel
        self.parameters = parameters
        self.threads_in_block = threads_in_block
        self.count = len(blocks) * threads_in_block
        self.blocks = len(blocks)
        self._registers: dict[str, Array] = {}
        self._special = self._special_registers(grid, blocks)
        self._all = np.arange(self.count)
        self.local = np.full((self.count, max(1, kernel.local_bytes)), 0xB7, np.uint8)

    def indices(self, lanes: Lanes) -> Integers:
        """Return the threads of the lanes."""
        return self._all if isinstance(lanes, slice) else lanes

    def size(self, lanes: Lanes) -> int:
        return self.count if isinstance(lanes, slice) else len(lanes)

    def read(self, operand: Operand, type_name: str) -> Read:
        """Return what gives an operand's value, as a type, in some lanes."""
        if not isinstance(operand, str):
            raise PtxFault(f"{operand} is no value")
        if operand.startswith("%"):
            view = self._narrowed(self._register(operand), np.dtype(TYPES[type_name]))
            return lambda lanes: view[lanes]
        constant = self._constant(operand, type_name)
        return lambda _: constant

    def write(self, operand: Operand, type_name: str) -> Write:
        """Return what writes an operand; a wider register is extended as the type says."""
        if not isinstance(operand, str):
            raise PtxFault(f"{operand} is no register")
        if operand == "_":
            return lambda _lanes, _values: None
        register = self._register(operand)
        view = register.view(self._widened(register, np.dtype(TYPES[type_name])))

        def write(lanes: Lanes, values: Any) -> None:
            view[lanes] = values

        return write

    def addresses(self, address: Operand) -> Callable[[Lanes], Integers]:
        """Return what gives the bytes that an operand [base + offset] names."""
        if not isinstance(address, Address):
            raise PtxFault(f"{address} is no address")
        base, offset = address.base, address.offset
        if not base.startswith("%"):
            start = self._symbol(base) + offset
            return lambda lanes: np.full(self.size(lanes), start, np.int64)
        register = self._register(base)
        return lambda lanes: register[lanes].astype(np.int64) + offset

    def vector(self, operand: Operand) -> tuple[str, ...]:
        return operand.parts if isinstance(operand, Vector) else (str(operand),)

    def _register(self, name: str) -> Array:
        special = self._special.get(name)
        if special is not None:
            return special
        if name not in self._registers:
            declared = self.kernel.registers
            type_name = declared.get(name) or declared.get(re.sub(r"\d+$", "", name))
            if type_name is None:
                raise PtxFault(f"register {name} is not declared, or not known here")
            self._registers[name] = np.zeros(self.count, kept_type(type_name))
        return self._registers[name]

    @staticmethod
    def _narrowed(register: Array, wanted: np.dtype[Any]) -> Array:
        if register.dtype == wanted:
            return register
        if wanted == np.bool_ or register.dtype == np.bool_:
            raise PtxFault("a predicate is taken for a number")
        if wanted.itemsize > register.itemsize:
            raise PtxFault(f"a register of {register.itemsize} bytes is read as {wanted}")
        return register.view(wanted)[:: register.itemsize // wanted.itemsize]

    @staticmethod
    def _widened(register: Array, wanted: np.dtype[Any]) -> np.dtype[Any]:
        if register.itemsize == wanted.itemsize:
            return wanted
        if wanted.itemsize > register.itemsize or wanted.kind not in "iu":
            raise PtxFault(f"a register of {register.itemsize} bytes is written as {wanted}")
        return np.dtype(f"{wanted.kind}{register.itemsize}")

    def _constant(self, text: str, type_name: str) -> np.generic:
        datatype = np.dtype(TYPES[type_name])
        if text.startswith(("0f", "0F")):
            bits = np.array([int(text[2:], 16)], np.uint32)
            return bits.view(np.float32).astype(np.float32)[0] if datatype.kind == "f" else bits[0]
        if re.fullmatch(r"-?(0[xX])?[0-9a-fA-F]+U?", text):
            value = int(text.rstrip("U"), 0)
        else:
            value = self._symbol(text)
        if datatype.kind == "b":
            return np.bool_(value != 0)
        kept = np.array([value & ((1 << (8 * datatype.itemsize)) - 1)], np.uint64)
        narrow: np.generic = kept.astype(f"u{datatype.itemsize}").view(datatype)[0]
        return narrow

    def _symbol(self, name: str) -> int:
        if name in self.kernel.shared:
            return self.kernel.shared[name].offset
        if name in self.kernel.local:
            return self.kernel.local[name].offset
        raise PtxFault(f"{name} is not known")

    def _special_registers(self, grid: tuple[int, int, int], blocks: range) -> dict[str, Array]:
        block = np.repeat(np.array(blocks, np.uint32), self.threads_in_block)
        thread = np.tile(np.arange(self.threads_in_block, dtype=np.uint32), len(blocks))
        values: dict[str, Any] = {
            "%tid.x": thread,
            "%tid.y": 0,
            "%tid.z": 0,
            "%ntid.x": self.threads_in_block,
            "%ntid.y": 1,
            "%ntid.z": 1,
            "%ctaid.x": block % grid[0],
            "%ctaid.y": block // grid[0] % grid[1],
            "%ctaid.z": block // (grid[0] * grid[1]),
            "%nctaid.x": grid[0],
            "%nctaid.y": grid[1],
            "%nctaid.z": grid[2],
            "%laneid": thread % 32,
            "%warpid": thread // 32,
        }
        return {
            name: np.broadcast_to(np.asarray(value, np.uint32), (self.count,)).copy()
            for name, value in values.items()
        }
