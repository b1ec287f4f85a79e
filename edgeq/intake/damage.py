"""Two files -> what marks one as a damaged copy of the other, in words.

A model that was trained again, or edited, differs in whole values and in whole constants; what a
bad cable, memory or disk does knows neither. Of 150 copies of VWW with one byte changed at random,
4 are refused by their structure and 20 answer otherwise, up to another class or NaN, while a
damaged model is its own reference in every later check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.model import DTYPES, Model

Bytes = npt.NDArray[np.uint8]

CHUNK_BYTES = 1 << 22
FEW_BYTES = 64  # that differ, at most, and one in a thousand: more is another model
FEW_SHARE = 1000
HOLE_BYTES = 16  # zeros in a row, where the other file has values
TORN_BYTES = 4096  # on either side of where a new file ends and the old one goes on
TORN_VALUES = 64  # of one constant, on either side
LARGEST_RATIO = 1000.0  # of a value to the largest that the constant had, or to 1


@dataclass(frozen=True)
class _Difference:
    count: int  # of bytes
    first: int
    last: int
    places: npt.NDArray[np.int64]  # the first FEW_BYTES + 1 of them


@dataclass(frozen=True)
class _Constant:
    start: int
    values: npt.NDArray[Any]  # as the known file has them

    @property
    def stop(self) -> int:
        return self.start + self.values.nbytes

    @property
    def most_sensible(self) -> float:
        """The largest magnitude that another training may have."""
        return LARGEST_RATIO * max(1.0, float(np.abs(self.values).max(initial=0.0)))

    def values_in(self, drop: Bytes) -> npt.NDArray[Any]:
        """Return what another file has in the same place."""
        raw = np.ascontiguousarray(drop[self.start : self.stop])
        return raw.view(self.values.dtype)


def find_damage(known: Bytes, drop: Bytes) -> str:
    """Return how `drop` is `known` but for its damage, "" where it is the same or another model.

    Args:
        known: the bytes of a sound model.
        drop: those of the file in question; one of another size is never a match, for what was
            cut off is found by its structure.
    """
    if known.size != drop.size:
        return ""
    difference = _difference(known, drop)
    if difference is None:
        return ""
    span = drop[difference.first : difference.last + 1]
    if span.size >= HOLE_BYTES and not span.any():
        return f"zeros from byte {difference.first} to {difference.last}"
    constants = sorted(_float_constants(known), key=lambda constant: constant.start)
    if difference.count <= min(FEW_BYTES, drop.size // FEW_SHARE):
        if _are_whole_values(difference, constants, drop):
            return ""
        return f"{difference.count} of {drop.size} bytes, in parts of values"
    if _is_torn(difference, constants, drop):
        return f"all bytes up to {difference.last}, in mid-constant: two files in one"
    if _is_alike_elsewhere(constants, known, drop):
        return _insane(constants, drop)
    return ""


def _difference(known: Bytes, drop: Bytes) -> _Difference | None:
    count, last, found = 0, 0, np.empty(0, np.int64)
    for start in range(0, known.size, CHUNK_BYTES):
        end = start + CHUNK_BYTES
        here = np.flatnonzero(known[start:end] != drop[start:end]) + start
        if here.size:
            count, last = count + here.size, int(here[-1])
            found = np.concatenate([found, here[: FEW_BYTES + 1]])[: FEW_BYTES + 1]
    return _Difference(count, int(found[0]), last, found) if count else None


def _are_whole_values(difference: _Difference, constants: Sequence[_Constant], drop: Bytes) -> bool:
    """True where every byte belongs to a float that was changed in two bytes at least, sensibly."""
    values: dict[tuple[int, int], int] = {}
    for place in difference.places.tolist():
        number = next((i for i, c in enumerate(constants) if c.start <= place < c.stop), None)
        if number is None:
            return False
        constant = constants[number]
        value = (number, (place - constant.start) // constant.values.itemsize)
        values[value] = values.get(value, 0) + 1
    return all(
        changed >= 2 and _is_sensible(constants[number], index, drop)
        for (number, index), changed in values.items()
    )


def _is_sensible(constant: _Constant, index: int, drop: Bytes) -> bool:
    return bool(abs(float(constant.values_in(drop)[index])) <= constant.most_sensible)


def _is_alike_elsewhere(constants: Sequence[_Constant], known: Bytes, drop: Bytes) -> bool:
    """True where the files differ in float constants only, so that these lie in the same places."""
    starts = [0, *(constant.stop for constant in constants)]
    ends = [*(constant.start for constant in constants), known.size]
    return all(
        np.array_equal(known[start:end], drop[start:end])
        for start, end in zip(starts, ends, strict=True)
    )


def _insane(constants: Sequence[_Constant], drop: Bytes) -> str:
    """Return what values no training writes are there, as in a sector of another file, or ""."""
    for constant in constants:
        values = np.abs(constant.values_in(drop).astype(np.float64))
        count = int(np.count_nonzero(~(values <= constant.most_sensible)))
        if count:
            return f"{count} of {values.size} values of a constant, which are out of all proportion"
    return ""


def _is_torn(difference: _Difference, constants: Sequence[_Constant], drop: Bytes) -> bool:
    """True where a new file was written over an old one, and the writer never came to its end.

    `scp` and `rsync --inplace` write so: a link that hangs leaves the one's start and the other's
    rest, and two trainings of one net have the same structure.
    """
    boundary = difference.last + 1
    if boundary < TORN_BYTES or drop.size - boundary < TORN_BYTES:
        return False
    before = [c for c in constants if c.start < boundary]
    cut = [c for c in before if c.stop > boundary]
    if not cut or not all(_is_new(c, drop, boundary) for c in before):
        return False
    place = (boundary - cut[0].start) // cut[0].values.itemsize
    # Zeros stay zeros from one training to the next: channels that are dead, or were pruned.
    rest = int(np.count_nonzero(cut[0].values[place:]))
    return min(place, rest) >= TORN_VALUES


def _is_new(constant: _Constant, drop: Bytes, boundary: int) -> bool:
    """True where most of a constant's values up to the boundary are others than the known ones."""
    count = (min(constant.stop, boundary) - constant.start) // constant.values.itemsize
    is_other = constant.values_in(drop)[:count] != constant.values[:count]
    return 2 * int(np.count_nonzero(is_other)) >= count


def _float_constants(known: Bytes) -> Iterator[_Constant]:
    """Yield where the float constants of a model lie, each buffer once."""
    content = known.tobytes()
    model = Model.from_bytes(content)
    base = _address(np.frombuffer(content, np.uint8))
    seen: set[int] = set()
    for graph in model.subgraphs():
        for index, tensor in enumerate(graph.tensors):
            dtype = DTYPES.get(graph.type_name(index))
            if tensor.buffer in seen or not graph.is_constant(index) or dtype is None:
                continue
            seen.add(tensor.buffer)
            raw = np.asarray(model.proto.buffers[tensor.buffer].data, np.uint8)
            if dtype.kind == "f" and raw.size % dtype.itemsize == 0:
                yield _Constant(_address(raw) - base, raw.view(dtype))


def _address(array: Bytes) -> int:
    return int(array.__array_interface__["data"][0])
