"""A MatrixProduct -> the kernels that can carry it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from edgeq.engines.cuda.binding.epilogue import requantization_constants
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.nest import Nest, broadcast, is_multiple, together
from edgeq.engines.cuda.binding.packing import sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, View, Work
from edgeq.engines.cuda.program.nodes import MatrixProduct, Pair

TILES: tuple[Pair, ...] = ((64, 64), (32, 32), (64, 16), (16, 64), (16, 16))
DIRECT_THREADS = 128
STEP = 32  # along K
RESULTS = 16  # of a thread
STORE_INSTRUCTIONS = 16  # of one result


@dataclass(frozen=True, eq=False)
class Case:
    """A MatrixProduct where it lies: y [m, n] of k, for every turn of the outer loops."""

    node: MatrixProduct
    site: Site
    a: View
    b: View
    y: View
    k: int
    outer: Nest  # over a, b, y

    @classmethod
    def of(cls, node: MatrixProduct, site: Site) -> Case:
        """Look up the views."""
        views = a, b, y = [site.view(value) for value in (node.a, node.b, node.y)]
        outer = together(*(_outer(view, y.shape[:-2]) for view in views))
        return cls(node, site, a, b, y, a.shape[-2 if node.a_transposed else -1], outer)

    @property
    def m(self) -> int:
        """Return the rows of a result."""
        return self.y.shape[-2]

    @property
    def n(self) -> int:
        """Return the columns of a result."""
        return self.y.shape[-1]

    @property
    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        read = math.prod(self.a.shape) + math.prod(self.b.shape)
        written = math.prod(self.y.shape)
        return Work(written * self.k, read, written)

    def estimate(self, threads: int, instructions: float, rounds: int) -> float:
        """Return microseconds of so many threads."""
        moved = self.work.read_bytes + self.work.written_bytes
        return microseconds(self.site.target, threads, instructions, moved, rounds)

    def launch(
        self, template: str, own: dict[str, Constant], threads: int, grid: tuple[int, int, int]
    ) -> tuple[Launch, ...]:
        """Return the one launch."""
        constants = sorted_constants({**self._constants(), **own})
        pointers: tuple[Pointer, ...] = (self.a.pointer, self.b.pointer, self.y.pointer)
        label = self.site.value(self.node.y).name
        return (Launch(Kernel(template, constants, threads), grid, pointers, label, self.work),)

    def _constants(self) -> dict[str, Constant]:
        node = self.node
        return {
            **self.outer.constants("A", "B", "Y"),
            **requantization_constants(node.requantization),
            **_scale(node),
            "M": self.m,
            "N": self.n,
            "K": self.k,
            "A_PITCH": self.a.pitch,
            "B_PITCH": self.b.pitch,
            "Y_PITCH": self.y.pitch,
            "A_TRANSPOSED": int(node.a_transposed),
            "B_TRANSPOSED": int(node.b_transposed),
            "A_ZERO_POINT": node.a_zero_point,
            "B_ZERO_POINT": node.b_zero_point,
        }


def _scale(node: MatrixProduct) -> dict[str, Constant]:
    fixed = node.fixed
    if fixed is None:
        return {"FIXED": 0, "SCALE": float(node.requantization.scale[0])}
    return {
        "FIXED": 1,
        "MULTIPLIER": fixed.multiplier,
        "LEFT": fixed.left,
        "RIGHT": fixed.right,
    }


def _outer(view: View, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the size and stride of each outer loop; 0 where the view is broadcast."""
    matrices = View(view.pointer, view.shape[:-2], view.strides[:-2])
    return broadcast(matrices, shape)


def choices(node: MatrixProduct, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a batched matrix product, best first."""
    case = Case.of(node, site)
    tiled = sorted((_tiled(case, tile) for tile in TILES), key=lambda choice: choice.microseconds)
    return (*tiled, _direct(case))


def _tiled(case: Case, tile: Pair) -> Choice:
    grid = (-(-case.n // tile[1]), -(-case.m // tile[0]), case.outer.count)
    threads = tile[0] * tile[1] // RESULTS
    steps = -(-case.k // STEP)
    loads = sum(tile) * (STEP // 4) / threads * 20
    instructions = steps * (STEP // 4 * (2 + RESULTS) + loads) + RESULTS * STORE_INSTRUCTIONS
    estimate = case.estimate(math.prod(grid) * threads, instructions, steps)
    bind = partial(_bind_tiled, case, tile, grid, threads)
    return Choice(f"matrix_product {tile[0]}x{tile[1]}", estimate, bind)


def _bind_tiled(
    case: Case, tile: Pair, grid: tuple[int, int, int], threads: int
) -> tuple[Launch, ...]:
    own: dict[str, Constant] = {
        "BM": tile[0],
        "BN": tile[1],
        "A_WORDS": int(_in_words(case.a, case.outer.strides[0])),
        "B_WORDS": int(_in_words(case.b, case.outer.strides[1])),
    }
    return case.launch("matrix_product", own, threads, grid)


def _in_words(view: View, outer: tuple[int, ...]) -> bool:
    return is_multiple(view, (view.pitch, *outer), 4)


def _direct(case: Case) -> Choice:
    results = case.m * case.n
    grid = (-(-results // DIRECT_THREADS), case.outer.count, 1)
    estimate = case.estimate(results * case.outer.count, 8 * case.k, case.k // 4)
    launch = partial(case.launch, "matrix_product_direct", {}, DIRECT_THREADS, grid)
    return Choice("matrix_product_direct", estimate, launch)
