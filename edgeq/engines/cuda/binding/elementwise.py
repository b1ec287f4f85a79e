"""Nodes that work value by value -> kernels: Quantize, Dequantize, Sum, Product, the lookups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.nest import (
    Nest,
    broadcast,
    extents,
    is_aligned,
    is_multiple,
    is_run,
    padded_row,
    together,
    with_row,
)
from edgeq.engines.cuda.binding.packing import sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, View, Work
from edgeq.engines.cuda.program.nodes import (
    ChannelLookup,
    Dequantize,
    Extremum,
    Lookup,
    Product,
    Quantize,
    Sum,
)

THREADS = 128
BYTE_WIDTHS = (16, 8, 4, 1)  # int8 neighbours of a thread
FLOAT_WIDTHS = (4, 1)  # a word of int8 and 16 bytes of float32
BEST = 2  # how many widths are worth timing

Views = Sequence[View]
Place = Callable[[], Pointer]


@dataclass(frozen=True)
class Streaming:
    """A kernel with one thread for `width` neighbours of the nest's innermost loop."""

    template: str
    names: tuple[str, ...]  # of the operands as in the template; the last is the result
    views: tuple[View, ...]
    nest: Nest
    width: int
    instructions: float  # for each element
    constants: Mapping[str, Constant]
    table: Place | None = None  # places it; its pointer is the last but one
    gathers: bool = False  # the result is one dense run, the operand is read one by one

    def choice(self, site: Site) -> Choice:
        """Return it with its estimate."""
        moved = [self._bytes(operand) for operand in range(len(self.views))]
        work = Work(0, sum(moved[:-1]), moved[-1])
        threads, instructions = self._threads, self.instructions * self.width
        estimated = microseconds(site.target, threads, instructions, sum(moved))
        name = f"{self.template} x{self.width}{' gathered' if self.gathers else ''}"
        return Choice(name, estimated, lambda: (self._launch(work),))

    @property
    def _tail(self) -> int:
        """Return the last elements of a run that fill no group: each has a thread."""
        return 0 if self.gathers else self.nest.count % self.width

    @property
    def _groups(self) -> int:
        count = self.nest.count
        return -(-count // self.width) if self.gathers else count // self.width

    @property
    def _threads(self) -> int:
        return self._groups + self._tail

    def _bytes(self, operand: int) -> int:
        loops = zip(self.nest.sizes, self.nest.strides[operand], strict=True)
        return math.prod(size for size, stride in loops if stride) * self.views[operand].itemsize

    def _launch(self, work: Work) -> Launch:
        loops = self.nest if self.gathers else self.nest.in_groups(self.width)
        own: dict[str, Constant] = {
            "WIDTH": self.width,
            "COUNT": self._groups,
            "TAIL": self._tail,
        }
        constants = own | loops.constants(*self.names) | dict(self.constants)
        pointers = [view.pointer for view in self.views]
        if self.table is not None:
            pointers.insert(-1, self.table())
        kernel = Kernel(self.template, sorted_constants(constants), THREADS)
        grid = (-(-self._threads // THREADS), 1, 1)
        return Launch(kernel, grid, tuple(pointers), self.template, work)


def quantize_choices(node: Quantize, site: Site) -> tuple[Choice, ...]:
    """Return ways to carry out Quantize."""
    views = x, y = site.view(node.x), site.view(node.y)
    unsigned = site.value(node.y).datatype == "uint8"
    constants: dict[str, Constant] = {
        "INVERSE_SCALE": float(np.float32(node.inverse_scale)),
        "ZERO_POINT": node.zero_point,
        "LOW": 0 if unsigned else -128,
        "HIGH": 255 if unsigned else 127,
    }

    def streaming(nest: Nest, width: int, row: int) -> Streaming:
        tail: dict[str, Constant] = {"WHOLE_LOADS": 1}
        if row > y.shape[-1]:
            tail = {"WHOLE_LOADS": 0, "ROW": y.shape[-1], "GROUPS": row // width}
        return Streaming("quantize", ("X", "Y"), views, nest, width, 6, constants | tail)

    row = padded_row(y, [], 4)
    nest = together(*(extents(with_row(view, row)) for view in views))
    if row > y.shape[-1] and is_multiple(y, nest.strides[1][:-1], 4):
        return (streaming(nest, 4, row).choice(site),)
    whole = together(extents(x), extents(y))
    fitting = [w for w in FLOAT_WIDTHS if w == 1 or is_aligned(whole, views, w)]
    return _best(site, (streaming(whole, width, 0) for width in fitting))


def dequantize_choices(node: Dequantize, site: Site) -> tuple[Choice, ...]:
    """Return the way to carry out Dequantize."""
    x = site.view(node.x)
    constants: dict[str, Constant] = {
        "BYTE": "u8" if site.value(node.x).datatype == "uint8" else "i8",
        "SCALE": float(np.float32(node.scale)),
        "ZERO_POINT": node.zero_point,
        "TABLE": 0,
    }
    return _to_floats((x, site.view(node.y)), site, constants, lambda: x.pointer)


def _to_floats(
    views: tuple[View, View], site: Site, constants: Mapping[str, Constant], table: Place
) -> tuple[Choice, ...]:
    """Return the kernel that writes float32 of bytes: as wide as y allows."""
    x, y = views
    nest, widest = together(extents(x), extents(y)), FLOAT_WIDTHS[0]
    is_whole = is_aligned(nest, views, widest)
    gathers = not is_whole and y.is_dense and is_multiple(y, (), widest)
    width, instructions = widest if is_whole or gathers else 1, 10 if gathers else 4
    own = {**constants, "GATHERS": int(gathers), "ELEMENTS": nest.count}
    kernel = Streaming("dequantize", ("X", "Y"), views, nest, width, instructions, own, table,
                       gathers=gathers)  # fmt: skip
    return (kernel.choice(site),)


def sum_choices(node: Sum, site: Site) -> tuple[Choice, ...]:
    """Return ways to carry out Sum."""
    addition = node.addition
    constants: dict[str, Constant] = {
        "A_FACTOR": addition.a_factor,
        "B_FACTOR": addition.b_factor,
        "BIAS": addition.bias,
        "SHIFT": addition.shift,
        "ZERO_POINT": addition.zero_point,
        "LOW": addition.low,
        "HIGH": addition.high,
    }
    return _binary("sum", node, site, 7, constants)


def extremum_choices(node: Extremum, site: Site) -> tuple[Choice, ...]:
    """Return ways to carry out Extremum."""
    return _binary("extremum", node, site, 3, {"MAXIMUM": int(node.kind == "maximum")})


def product_choices(node: Product, site: Site) -> tuple[Choice, ...]:
    """Return ways to carry out Product."""
    constants: dict[str, Constant] = {
        "A_ZERO_POINT": node.a_zero_point,
        "B_ZERO_POINT": node.b_zero_point,
        "SCALE": float(np.float32(node.scale)),
        "ZERO_POINT": node.zero_point,
        "LOW": node.low,
        "HIGH": node.high,
        "FIXED": int(node.fixed is not None),
    }
    if node.fixed is not None:
        constants["MULTIPLIER"] = node.fixed.multiplier
        constants |= {"LEFT": node.fixed.left, "RIGHT": node.fixed.right}
    return _binary("product", node, site, 11, constants)


def _binary(
    template: str,
    node: Sum | Extremum | Product,
    site: Site,
    instructions: float,
    constants: Mapping[str, Constant],
) -> tuple[Choice, ...]:
    views = site.view(node.a), site.view(node.b), site.view(node.y)

    def walk(rows: Views) -> Nest:
        return together(*(broadcast(view, rows[-1].shape) for view in rows))

    def streaming(nest: Nest, width: int, _: int) -> Streaming:
        a, b, _y = (int(own[-1] == 0) for own in nest.strides)
        spread = {"A_SPREAD": a, "B_SPREAD": b}
        own = {**constants, **spread}
        return Streaming(template, ("A", "B", "Y"), views, nest, width, instructions, own)

    return _best(site, _streams(views, walk, streaming))


def lookup_choices(node: Lookup, site: Site) -> tuple[Choice, ...]:
    """Return ways to carry out Lookup, to bytes or to float32."""
    views = site.view(node.x), site.view(node.y)
    table = node.table
    if site.value(node.x).datatype == "int8":
        table = np.roll(table, 128)  # entry i: of the int8 that has the bits of i

    def place() -> Pointer:
        return site.constant(table)

    def streaming(nest: Nest, width: int, _: int) -> Streaming:
        return Streaming("lookup", ("X", "Y"), views, nest, width, 4, {}, place)

    if site.value(node.y).datatype == "float32":
        unused: dict[str, Constant] = {"SCALE": 1.0, "ZERO_POINT": 0}
        return _to_floats(views, site, {"BYTE": "u8", "TABLE": 1, **unused}, place)
    return _best(site, _streams(views, _walk, streaming))


def channel_lookup_choices(node: ChannelLookup, site: Site) -> tuple[Choice, ...]:
    """Return ways to carry out ChannelLookup."""
    views = site.view(node.x), site.view(node.y)

    def streaming(nest: Nest, width: int, row: int) -> Streaming | None:
        if row % width:
            return None
        channels = ((0, row - len(node.tables)), (0, 0))
        tables = np.roll(np.pad(node.tables, channels), 128, axis=1)
        place = lambda: site.constant(tables)  # noqa: E731
        own: dict[str, Constant] = {"CHANNELS": row}
        return Streaming("channel_lookup", ("X", "Y"), views, nest, width, 6, own, place)

    return _best(site, _streams(views, _walk, streaming))


def _walk(rows: Views) -> Nest:
    return together(*map(extents, rows))


def _streams(
    views: Views,
    walk: Callable[[Views], Nest],
    make: Callable[[Nest, int, int], Streaming | None],
) -> Iterator[Streaming]:
    """Yield a kernel for each width that the views allow, given nest, width and a row's extent.

    Rows are made longer by their padding, where that lets wider accesses reach their ends.
    """
    *operands, y = views
    for width in BYTE_WIDTHS:
        row = padded_row(y, operands, width)
        rows = [with_row(view, row) for view in views]
        nest = walk(rows)
        if width == 1 or is_aligned(nest, views, width) or is_run(nest, views, width):
            made = make(nest, width, row)
            if made is not None:
                yield made


def _best(site: Site, kernels: Iterable[Streaming]) -> tuple[Choice, ...]:
    """Return the two best widths; one byte at a time only where nothing else fits."""
    found = list(kernels)
    wide = [kernel for kernel in found if kernel.width > 1] or found
    choices = sorted((k.choice(site) for k in wide), key=lambda choice: choice.microseconds)
    return tuple(choices[:BEST])
