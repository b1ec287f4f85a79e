"""A Pooling -> the kernels that can carry it out."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.engines.cuda.binding.channels import Channels, pixel_constants
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.packing import Pixels, sorted_constants
from edgeq.engines.cuda.binding.reducing import AVERAGED, LARGEST, Columns, column_choices
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Work
from edgeq.engines.cuda.program.nodes import Pooling, Window

THREADS = 128
IN_FLIGHT = 4  # loads of a thread
BEST = 2


def choices(node: Pooling, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a Pooling, best first."""
    x, y = Pixels.of(site.view(node.x)), Pixels.of(site.view(node.y))
    found = list(_windowed(node, site, x, y))
    if y.h * y.w == 1 and _covers(node.window, x):
        columns = Columns.of(site.view(node.x), site.view(node.y), x.n, x.h * x.w, x.channels)
        kind = AVERAGED if node.kind == "average" else LARGEST
        found += column_choices(columns, site, kind, {"LOW": node.low, "HIGH": node.high})
    return tuple(sorted(found, key=lambda choice: choice.microseconds)[:BEST])


def _covers(window: Window, x: Pixels) -> bool:
    """Say whether the one window sees all of x."""
    (top, left), (height, width) = window.before, window.size
    return height - top >= x.h and width - left >= x.w


def _windowed(node: Pooling, site: Site, x: Pixels, y: Pixels) -> Iterator[Choice]:
    """Yield the kernel with one thread for some channels of an output, for each width."""
    window = node.window
    constants: dict[str, Constant] = {
        **pixel_constants(x, y),
        "KH": window.size[0],
        "KW": window.size[1],
        "STRIDE_H": window.stride[0],
        "STRIDE_W": window.stride[1],
        "BEFORE_H": window.before[0],
        "BEFORE_W": window.before[1],
        "IS_WHOLE": int(_stays_inside(window, x, y)),
        "IS_MAXIMUM": int(node.kind == "maximum"),
        "LOW": node.low,
        "HIGH": node.high,
    }
    for channels in Channels.of(site.view(node.x), site.view(node.y)):
        own: dict[str, Constant] = {"C": channels.count, "WIDTH": channels.width}
        kernel = Kernel("pooling", sorted_constants({**constants, **own}), THREADS)
        yield _choice(kernel, site, x, y, channels, window.size[0] * window.size[1])


def _stays_inside(window: Window, x: Pixels, y: Pixels) -> bool:
    """Say whether no window reaches beyond x."""
    parts = zip((y.h, y.w), window.stride, window.size, (x.h, x.w), strict=True)
    ends = [(count - 1) * stride + size <= extent for count, stride, size, extent in parts]
    return window.before == (0, 0) and all(ends)


def _choice(
    kernel: Kernel, site: Site, x: Pixels, y: Pixels, channels: Channels, taps: int
) -> Choice:
    threads, width = y.count * channels.groups, channels.width
    instructions = taps * (4 + 3 * width) + 20 * width
    estimated = microseconds(
        site.target, threads, instructions, x.bytes + y.bytes, -(-taps // IN_FLIGHT)
    )
    grid = (-(-threads // THREADS), 1, 1)
    work = Work(0, x.bytes, y.bytes)
    launch = Launch(kernel, grid, (x.pointer, y.pointer), "pooling", work)
    return Choice(f"pooling x{width}", estimated, lambda: (launch,))
