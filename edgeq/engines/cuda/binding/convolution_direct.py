"""A convolution -> the kernel that takes every one: `conv_direct`."""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.launch import Launch

NAIVE = "conv_direct"
THREADS = 128
PRODUCTS_A_ROUND = 64  # four loads are under way at once, and most of them hit the first cache
INSTRUCTIONS = 4  # of one product: two loads of a byte, a select, a multiply-add


def direct(problem: Problem) -> Choice:
    """Return the naive kernel."""
    outputs = problem.y.count * problem.y.channels
    depth = problem.weights.size // problem.y.channels
    estimate = microseconds(
        problem.site.target,
        outputs,
        INSTRUCTIONS * depth,
        problem.work.read_bytes + problem.work.written_bytes,
        rounds=1 + depth // PRODUCTS_A_ROUND,
    )
    return Choice(NAIVE, estimate, lambda: (_bind(problem, outputs),))


def _bind(problem: Problem, outputs: int) -> Launch:
    weights = problem.site.constant(np.moveaxis(problem.weights, 0, -1))
    grid = (-(-outputs // THREADS), 1, 1)
    return problem.launch(NAIVE, {}, THREADS, grid, (weights,))
