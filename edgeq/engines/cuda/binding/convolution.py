"""A Convolution and where its values lie -> the kernels that can carry it out, best first."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.engines.cuda.binding.convolution_direct import direct
from edgeq.engines.cuda.binding.convolution_lanes import lanes
from edgeq.engines.cuda.binding.convolution_mma import tensor
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.nodes import Convolution, Dense


def choices(node: Convolution, site: Site) -> tuple[Choice, ...]:
    """Return every way that the target and the views allow, best first by estimate.

    Raises:
        EngineError: a value is too large for any kernel.
    """
    return ordered(Problem.of(node, site))


def as_convolution(node: Dense, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a Dense of many rows: a convolution of 1 x 1 pixels."""
    return ordered(Problem.of(node, site))


def ordered(problem: Problem) -> tuple[Choice, ...]:
    """Return the ways to carry out a problem, best first by estimate."""
    return tuple(sorted(_candidates(problem), key=lambda choice: choice.microseconds))


def _candidates(problem: Problem) -> Iterator[Choice]:
    yield direct(problem)
    folded = problem.folded()
    yield from tensor(folded)
    yield from lanes(folded)
