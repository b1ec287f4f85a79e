"""NearestResize and BilinearResize -> their kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edgeq.engines.cuda.binding.channels import Channels, pixel_constants
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.packing import Pixels, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, Work
from edgeq.engines.cuda.program.nodes import BilinearResize, Int32s, NearestResize

THREADS = 128
BEST = 2


def nearest_choices(node: NearestResize, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a NearestResize, best first."""
    x, y = Pixels.of(site.view(node.x)), Pixels.of(site.view(node.y))
    even = _is_even(node.rows, x.h) and _is_even(node.columns, x.w)

    def tables() -> tuple[Pointer, Pointer]:
        if even:
            return x.pointer, x.pointer  # not read
        return site.constant(node.rows), site.constant(node.columns)

    constants: Mapping[str, Constant] = {"IS_EVEN": int(even)}
    return _best(_choices("resize_nearest", node, site, constants, tables, 1, y.bytes))


def _is_even(indices: Int32s, extent: int) -> bool:
    """Say whether the index is a division away."""
    count = len(indices)
    return bool(np.array_equal(indices, np.arange(count, dtype=np.int64) * extent // count))


def bilinear_choices(node: BilinearResize, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a BilinearResize, best first."""
    x = Pixels.of(site.view(node.x))

    def tables() -> tuple[Pointer, Pointer]:
        rows = _weighted(node.rows, node.row_weights)
        return site.constant(rows), site.constant(_weighted(node.columns, node.column_weights))

    return _best(_choices("resize_bilinear", node, site, {}, tables, 10, x.bytes))


def _weighted(indices: Int32s, weights: Int32s) -> Int32s:
    """Return [N, 4]: first, second, weight of the second, 0."""
    columns = [indices[:, 0], indices[:, 1], weights, np.zeros_like(weights)]
    return np.stack(columns, axis=1).astype(np.int32)


def _choices(
    template: str,
    node: NearestResize | BilinearResize,
    site: Site,
    constants: Mapping[str, Constant],
    tables: Callable[[], tuple[Pointer, Pointer]],
    instructions: int,
    read_bytes: int,
) -> Iterator[Choice]:
    x, y = Pixels.of(site.view(node.x)), Pixels.of(site.view(node.y))
    work = Work(0, read_bytes, y.bytes)
    for channels in Channels.of(site.view(node.x), site.view(node.y)):
        threads = y.count * channels.groups
        own: dict[str, Constant] = {"C": channels.count, "WIDTH": channels.width}
        kernel = Kernel(
            template, sorted_constants({**constants, **pixel_constants(x, y), **own}), THREADS
        )
        grid = (-(-threads // THREADS), 1, 1)

        def bind(kernel: Kernel = kernel, grid: tuple[int, int, int] = grid) -> tuple[Launch, ...]:
            pointers = (x.pointer, *tables(), y.pointer)
            return (Launch(kernel, grid, pointers, template, work),)

        estimated = microseconds(
            site.target, threads, 20 + instructions * channels.width, read_bytes + y.bytes, 2
        )
        yield Choice(f"{template} x{channels.width}", estimated, bind)


def _best(found: Iterator[Choice]) -> tuple[Choice, ...]:
    return tuple(sorted(found, key=lambda choice: choice.microseconds)[:BEST])
