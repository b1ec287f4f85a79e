"""A TransposedConvolution -> the kernels that can carry it out.

With a stride of S every S x S pixels of y that lie together see the same pixels of x, each through
taps of its own. So it is a convolution at stride 1 with S * S times the channels, whose results are
stored among one another ("sub-pixel convolution", Shi et al. 2016), and every kernel for
convolutions does it. Where S does not divide the window, some taps are zeros: of 3 x 3 taps at
stride 2 it makes 16.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgeq.engines.cuda.binding.convolution import ordered
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.epilogue import Ending, Phases
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Work
from edgeq.engines.cuda.program.nodes import (
    Epilogue,
    Int8s,
    Int32s,
    Pair,
    TransposedConvolution,
    Window,
)

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
    return (*_as_convolution(case), _direct(case))


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


# ---- as a convolution


def _as_convolution(case: Case) -> tuple[Choice, ...]:
    """Return what kernels for convolutions offer, by other names."""
    problem = _problem(case)
    return tuple(
        replace(choice, name=f"transposed {choice.name}", bind=partial(_bind_choice, choice, case))
        for choice in ordered(problem)
    )


def _bind_choice(choice: Choice, case: Case) -> tuple[Launch, ...]:
    return tuple(replace(launch, work=case.work) for launch in choice.bind())


def _problem(case: Case) -> Problem:
    """Return the convolution over positions q: of y's rows q * stride and on, before cropping."""
    window, y = case.node.window, case.ending.y
    taps = _pair(
        -(-size // stride) for size, stride in zip(window.size, window.stride, strict=True)
    )
    first = _pair(b // s for b, s in zip(window.before, window.stride, strict=True))
    last = _pair(
        (before + size - 1) // stride
        for before, size, stride in zip(window.before, (y.h, y.w), window.stride, strict=True)
    )
    count = _pair(b - a + 1 for a, b in zip(first, last, strict=True))
    channels = round_up(y.channels, max(4, case.ending.vector))
    offset = _pair(f * s - b for f, s, b in zip(first, window.stride, window.before, strict=True))
    phases = Phases(y, channels, window.stride, offset)
    weights = phase_weights(case.node.weights, window.stride, channels)
    whole = replace(y, h=count[0], w=count[1], channels=len(weights))
    ending = Ending(_epilogue(case, weights, channels), whole, case.ending.other, phases)
    slides = Window(taps, (1, 1), before=_pair(t - 1 - f for t, f in zip(taps, first, strict=True)))
    label = case.site.value(case.node.y).name
    return Problem(case.site, case.x, weights, slides, case.node.zero_point, ending, label)


def _pair(values: Iterable[int]) -> Pair:
    height, width = values
    return height, width


def phase_weights(weights: Int8s, stride: Pair, channels: int) -> Int8s:
    """Return [SH * SW * channels, taps, taps, C] of [OC, KH, KW, C], the taps in x's order."""
    _, kh, kw, depth = weights.shape
    taps = -(-kh // stride[0]), -(-kw // stride[1])
    size = (channels, taps[0] * stride[0], taps[1] * stride[1], depth)
    whole = padded(weights, *size).reshape(channels, taps[0], stride[0], taps[1], stride[1], depth)
    phases = whole[:, ::-1, :, ::-1].transpose(2, 4, 0, 1, 3, 5)
    return np.ascontiguousarray(phases).reshape(-1, *taps, depth)


def _epilogue(case: Case, weights: Int8s, channels: int) -> Epilogue:
    """Repeat bias and scale for each phase; into the bias goes what padding with x's zero adds."""
    own = case.node.epilogue.requantization
    repeats = len(weights) // channels
    sums: Int32s = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int32)
    bias = np.tile(padded(own.bias, channels), repeats) - case.node.zero_point * sums
    scale = np.tile(padded(own.scale, channels), repeats)
    folded = replace(own, bias=bias.astype(np.int32), scale=scale)
    return replace(case.node.epilogue, requantization=folded)
