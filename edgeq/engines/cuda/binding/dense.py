"""A Dense -> the kernels that can carry it out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from edgeq.engines.cuda.binding.convolution import as_convolution
from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, View, Work
from edgeq.engines.cuda.program.nodes import Dense
from edgeq.errors import EngineError

THREADS = 128
PARTS = (32, 8, 128)  # threads that share outputs; of equal estimates the first
OUTPUTS = (1, 2, 4)
ROWS_TOGETHER = 4
FEWEST_PIXELS = 8  # rows from which on a matrix product's tiles are not mostly empty
STORE_INSTRUCTIONS = 30


@dataclass(frozen=True, eq=False)
class Case:
    """A Dense where it lies: x [count, channels] and y as pixels of one row each."""

    node: Dense
    site: Site
    x: Pixels
    ending: Ending

    @classmethod
    def of(cls, node: Dense, site: Site) -> Case:
        """Look up the views.

        Raises:
            EngineError: rows of x or y go across padding.
        """
        outputs, features = node.weights.shape
        other = node.epilogue.other
        residual = None if other is None else rows(site.view(other), outputs)
        ending = Ending(node.epilogue, rows(site.view(node.y), outputs), residual)
        return cls(node, site, rows(site.view(node.x), features), ending)

    @property
    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        y, weights = self.ending.y, self.node.weights
        read = self.x.bytes + weights.size + self.ending.read_bytes
        return Work(self.x.count * weights.size, read, y.bytes)

    def launch(
        self,
        template: str,
        constants: dict[str, Constant],
        grid: tuple[int, int, int],
        weights: Pointer,
    ) -> tuple[Launch, ...]:
        """Return the one launch."""
        own: dict[str, Constant] = {
            "ROWS": self.x.count,
            "K": self.x.channels,
            "O": self.ending.y.channels,
            "X_PITCH": self.x.pitch,
        }
        every = sorted_constants({**self.ending.constants(), **own, **constants})
        pointers = (self.x.pointer, weights, *self.ending.pointers(self.site))
        label = self.site.value(self.node.y).name
        kernel = Kernel(template, every, THREADS)
        return (Launch(kernel, grid, (*pointers, self.ending.y.pointer), label, self.work),)

    def estimate(self, threads: int, instructions: float, rounds: int) -> float:
        """Return microseconds of so many threads."""
        moved = self.work.read_bytes + self.work.written_bytes
        return microseconds(self.site.target, threads, instructions, moved, rounds)


def rows(view: View, width: int) -> Pixels:
    """See a value as [count, width], whatever its shape.

    Raises:
        EngineError: there is padding inside a row.
    """
    own = Pixels.of(replace(view, shape=view.shape[-1:], strides=view.strides[-1:]))
    count = math.prod(view.shape) // width
    if view.shape[-1] == width:
        return replace(own, n=count, pitch=view.pitch)
    if not view.is_dense:
        raise EngineError(
            f"a value of shape {list(view.shape)} lies {view.pitch} elements apart; in rows of "
            f"{width} it has to be dense"
        )
    return replace(own, n=count, channels=width, pitch=width, owns_padding=False)


def choices(node: Dense, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a fully-connected layer, best first."""
    case = Case.of(node, site)
    found = [_gemv(case, parts, outputs) for parts in PARTS for outputs in OUTPUTS]
    if case.x.count >= FEWEST_PIXELS and _is_pointwise(node, site):
        found += as_convolution(node, site)
    return (*sorted(found, key=lambda choice: choice.microseconds), _direct(case))


def _is_pointwise(node: Dense, site: Site) -> bool:
    """Say whether rows are pixels, of x and of y."""
    shapes = site.value(node.y).shape[-1:] + site.value(node.x).shape[-1:]
    return shapes == node.weights.shape


def _direct(case: Case) -> Choice:
    threads = case.ending.y.bytes
    estimate = case.estimate(threads, 6 * case.x.channels, case.x.channels // 8)
    return Choice("dense_direct", estimate, partial(_bind_direct, case, threads))


def _bind_direct(case: Case, threads: int) -> tuple[Launch, ...]:
    weights = case.site.constant(case.node.weights)
    return case.launch("dense_direct", {}, (-(-threads // THREADS), 1, 1), weights)


def _gemv(case: Case, parts: int, outputs: int) -> Choice:
    together = min(ROWS_TOGETHER, case.x.count)
    grid = (
        -(-case.ending.y.channels // (outputs * THREADS // parts)),
        -(-case.x.count // together),
        1,
    )
    chunks = -(-case.x.channels // (16 * parts))
    sums = together * outputs
    instructions = float(chunks * (2 * together + 3 * outputs + 4 * sums))
    instructions += sums * 2 * math.log2(parts) + -(-sums // parts) * STORE_INSTRUCTIONS
    threads = grid[0] * grid[1] * THREADS
    estimate = case.estimate(threads, instructions, 1 + -(-chunks // 4))
    bind = partial(_bind_gemv, case, parts, outputs, grid)
    return Choice(f"dense_gemv {parts}x{outputs}", estimate, bind)


def _bind_gemv(
    case: Case, parts: int, outputs: int, grid: tuple[int, int, int]
) -> tuple[Launch, ...]:
    weights, x = case.node.weights, case.x
    pitch = round_up(x.channels, 16)
    own: dict[str, Constant] = {
        "PARTS": parts,
        "OUTPUTS": outputs,
        "ROWS_TOGETHER": min(ROWS_TOGETHER, x.count),
        "K_PITCH": pitch,
        "X_ALIGNED": int(x.alignment == 16),
        "X_ROOM": int(x.has_room(pitch)),
    }
    whole = padded(weights, round_up(weights.shape[0], outputs), pitch)
    return case.launch("dense_gemv", own, grid, case.site.constant(whole))
