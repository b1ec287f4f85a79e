"""A TransposedConvolution -> the kernels that can carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.packing import Pixels, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Work
from edgeq.engines.cuda.nodes import TransposedConvolution

THREADS = 128
INSTRUCTIONS_PER_PRODUCT = 5


@dataclass(frozen=True, eq=False)
class Case:
    """A TransposedConvolution where it lies."""

    node: TransposedConvolution
    site: Site
    x: Pixels
    ending: Ending

    @classmethod
    def of(cls, node: TransposedConvolution, site: Site) -> Case:
        """Look up the views."""
        ending = Ending.of(site, node.epilogue, node.y)
        return cls(node, site, Pixels.of(site.view(node.x)), ending)

    @property
    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        read = self.x.bytes + self.node.weights.size + self.ending.read_bytes
        return Work(self.x.count * self.node.weights.size, read, self.ending.y.bytes)

    def constants(self) -> dict[str, Constant]:
        """Return what the kernel is specialized by."""
        window, x, y = self.node.window, self.x, self.ending.y
        pairs = {
            "STRIDE": window.stride,
            "BEFORE": window.before,
            "X": (x.h, x.w),
            "Y": (y.h, y.w),
        }
        sides = {f"{name}_{'HW'[s]}": pair[s] for name, pair in pairs.items() for s in (0, 1)}
        own = {"N": x.n, "X_C": x.channels, "X_PITCH": x.pitch, "Y_C": y.channels}
        taps = {"KH": window.size[0], "KW": window.size[1], "ZERO_POINT": self.node.zero_point}
        return {**sides, **own, **taps, **self.ending.constants()}


def choices(node: TransposedConvolution, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a transposed convolution, best first."""
    case = Case.of(node, site)
    return (_direct(case),)


def _direct(case: Case) -> Choice:
    work, threads = case.work, case.ending.y.bytes
    instructions = INSTRUCTIONS_PER_PRODUCT * work.multiply_accumulates / threads
    moved = work.read_bytes + work.written_bytes
    estimate = microseconds(case.site.target, threads, instructions, moved, case.x.channels)
    return Choice("transposed_conv", estimate, partial(_bind_direct, case))


def _bind_direct(case: Case) -> tuple[Launch, ...]:
    kernel = Kernel("transposed_conv", sorted_constants(case.constants()), THREADS)
    weights = case.site.constant(case.node.weights)
    ending = case.ending.pointers(case.site)
    pointers = (case.x.pointer, weights, *ending, case.ending.y.pointer)
    grid = (-(-case.ending.y.bytes // THREADS), 1, 1)
    label = case.site.value(case.node.y).name
    return (Launch(kernel, grid, pointers, label, case.work),)
