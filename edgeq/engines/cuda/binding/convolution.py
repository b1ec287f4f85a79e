"""A Convolution and where its values lie -> the kernels that can carry it out, best first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from edgeq.engines.cuda.binding.convolution_direct import NAIVE, direct
from edgeq.engines.cuda.binding.convolution_lanes import lanes
from edgeq.engines.cuda.binding.convolution_mma import tensor
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.program.nodes import Convolution, Dense

ALIKE = 2  # choices with tiles of one shape that come before others
OFFERED = 16


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
    """Return good ways to carry out a problem: the best by estimate, then other shapes of tiles.

    The tuner times the first few, which had better not be one tile with different pipelines.
    """
    best = sorted(every(problem), key=lambda choice: choice.microseconds)
    seen = Counter[str]()
    early: list[Choice] = []
    late: list[Choice] = []
    for choice in best:
        shape = choice.name.partition(" w")[0].partition(" t")[0]
        (early if seen[shape] < ALIKE else late).append(choice)
        seen[shape] += 1
    offered, others = (*early, *late)[:OFFERED], (*early, *late)[OFFERED:]
    return (*offered, *(choice for choice in others if choice.name == NAIVE))


def every(problem: Problem) -> Iterator[Choice]:
    """Yield every way to carry out a problem, in no order."""
    yield direct(problem)
    folded = problem.folded()
    for product in chain(tensor(folded), lanes(folded)):
        yield product.choice()
