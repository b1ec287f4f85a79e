"""Sums and maxima of many values to one -> kernels: Mean, and pooling of a whole image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.nest import (
    Extent,
    Nest,
    extents,
    is_multiple,
    power_of_two,
    together,
)
from edgeq.engines.cuda.binding.packing import round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.estimating.cost import Demand, estimate
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, View, Work
from edgeq.engines.cuda.program.nodes import Mean
from edgeq.errors import EngineError

THREADS = 256
ROW_THREADS = 128
WIDTHS = (16, 4, 1)
GROUPS = (1, 2, 4, 8, 16, 32)  # of a block: neighbours that are loaded together
SECTOR_BYTES = 32  # the least that is fetched
FEW_ROWS = 8  # so few that more than a warp for each may pay
IN_FLIGHT = 4  # loads of a thread
REQUANTIZED, AVERAGED, LARGEST = 0, 1, 2  # EQ_FINISH
BEST = 2


@dataclass(frozen=True)
class Columns:
    """x, seen as [outer, count, inner] -> y [outer, inner], each as loops."""

    x: View
    y: View
    outer: Nest
    count: Nest
    inner: Nest

    @classmethod
    def of(cls, x: View, y: View, outer: int, count: int, inner: int) -> Columns:
        """Cut the views' dimensions.

        Raises:
            EngineError: a dimension belongs to two of the three.
        """
        x_outer, x_count, x_inner = _cut(x, (outer, count, inner))
        y_outer, y_inner = _cut(y, (outer, inner))
        return cls(
            x, y, together(x_outer, y_outer), together(x_count), together(x_inner, y_inner)
        )  # fmt: skip

    @property
    def work(self) -> Work:
        """Return what is read and written."""
        outputs = self.outer.count * self.inner.count
        return Work(0, outputs * self.count.count, outputs)

    def allows(self, width: int) -> bool:
        """Say whether `width` inner neighbours of x are one load, up to the last ones."""
        *outer, last = self.inner.strides[0]
        strides = [*self.outer.strides[0], *self.count.strides[0], *outer]
        extent = self.inner.sizes[-1]
        if width == 1:
            return True
        if last != 1 or not is_multiple(self.x, strides, width):
            return False
        in_row = self.inner.count == self.x.shape[-1] == extent
        return extent % width == 0 or (in_row and self.x.pitch >= round_up(extent, width))

    def choice(self, site: Site, width: int, groups: int, finish: Mapping[str, Constant]) -> Choice:
        """Return the kernel with `groups` times `width` inner neighbours in a block."""
        columns = -(-self.inner.count // width)
        split = min(THREADS // groups, power_of_two(self.count.count))
        constants: dict[str, Constant] = {
            "WIDTH": width,
            "COLUMNS": columns,
            "GROUPS": groups,
            "SPLIT": split,
        }
        kernel = Kernel(
            "reduce_columns",
            sorted_constants({**self._constants(), **finish, **constants}),
            groups * split,
        )
        blocks = self.outer.count * -(-columns // groups)
        pointers = self.x.pointer, self.y.pointer
        launch = Launch(kernel, (blocks, 1, 1), pointers, "reduce_columns", self.work)
        name = f"reduce_columns {groups}x{width} s{split}"
        return Choice(name, self._estimate(site, width, groups, split, blocks), lambda: (launch,))

    def _estimate(self, site: Site, width: int, groups: int, split: int, blocks: int) -> float:
        turns = -(-self.count.count // split)
        fetched = self.work.read_bytes * max(1.0, SECTOR_BYTES / (groups * width))
        demand = Demand(
            blocks=blocks,
            threads=groups * split,
            moved_bytes=self.work.read_bytes + self.work.written_bytes,
            fetched_bytes=fetched,
            instructions=turns * (4 + 3 * width) + split.bit_length() * (20 + 3 * width),
            rounds=-(-turns // IN_FLIGHT),
            shared_bytes=groups * split * width * 4,
        )
        return estimate(site.target, demand).microseconds

    def _constants(self) -> dict[str, Constant]:
        return {
            **self.outer.constants("X_OUTER", "Y_OUTER", sizes="OUTER_SIZES"),
            **self.count.constants("X_COUNT", sizes="COUNT_SIZES"),
            **self.inner.constants("X_INNER", "Y_INNER", sizes="INNER_SIZES"),
            "COUNT": self.count.count,
            "INNER": self.inner.count,
        }


def choices(node: Mean, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a Mean, best first."""
    x, y = site.view(node.x), site.view(node.y)
    columns = Columns.of(x, y, node.outer, node.count, node.inner)
    finish: dict[str, Constant] = {
        "SCALE": float(np.float32(node.scale)),
        "OFFSET": float(np.float32(node.offset)),
        "LOW": node.low,
        "HIGH": node.high,
    }
    found = list(_rows(columns, site, finish))
    if len(found) == 0 or columns.outer.count <= FEW_ROWS:
        found += column_choices(columns, site, REQUANTIZED, finish)
    return tuple(sorted(found, key=lambda choice: choice.microseconds)[:BEST])


def column_choices(
    columns: Columns, site: Site, kind: int, finish: Mapping[str, Constant]
) -> tuple[Choice, ...]:
    """Return a kernel for each size of blocks and width that x allows, the best first."""
    allowed = [w for w in WIDTHS if columns.allows(w)]
    found = [
        columns.choice(site, width, groups, {**finish, "FINISH": kind})
        for width in [w for w in allowed if w > 1] or allowed
        for groups in GROUPS
        if groups < 2 * -(-columns.inner.count // width)
    ]
    return tuple(sorted(found, key=lambda choice: choice.microseconds)[:BEST])


def _rows(columns: Columns, site: Site, finish: Mapping[str, Constant]) -> Iterator[Choice]:
    """Yield the kernel for sums of consecutive bytes."""
    count, rows = columns.count, columns.outer
    if columns.inner.count > 1 or len(count.sizes) > 1 or count.strides[0][0] != 1:
        return
    width = next(
        w for w in WIDTHS
        if count.count % w == 0 and (w == 1 or is_multiple(columns.x, rows.strides[0], w))
    )  # fmt: skip
    turns = -(-count.count // (32 * width))
    estimated = microseconds(
        site.target, rows.count * 32, turns * (6 + width) + 30, columns.work.read_bytes,
        -(-turns // IN_FLIGHT),
    )  # fmt: skip
    own: dict[str, Constant] = {"WIDTH": width, "ROWS": rows.count, "COUNT": count.count}
    constants = {**own, **rows.constants("X", "Y"), **finish}
    kernel = Kernel("reduce_rows", sorted_constants(constants), ROW_THREADS)
    grid = (-(-rows.count // (ROW_THREADS // 32)), 1, 1)
    pointers = columns.x.pointer, columns.y.pointer
    launch = Launch(kernel, grid, pointers, "reduce_rows", columns.work)
    yield Choice(f"reduce_rows x{width}", estimated, lambda: (launch,))


def _cut(view: View, sizes: Sequence[int]) -> list[Sequence[Extent]]:
    """Return the view's dimensions in groups of so many elements."""
    left = [extent for extent in extents(view) if extent[0] > 1]
    groups: list[Sequence[Extent]] = []
    for size in sizes:
        taken = 0
        while math.prod(e[0] for e in left[:taken]) < size and taken < len(left):
            taken += 1
        groups.append(left[:taken])
        if math.prod(e[0] for e in left[:taken]) != size:
            raise EngineError(f"{view.shape} does not fall into parts of {list(sizes)} elements")
        left = left[taken:]
    return groups
