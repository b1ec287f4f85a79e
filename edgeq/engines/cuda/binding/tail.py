"""Average, fully-connected layer, softmax and dequantization -> one kernel for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.engines.cuda.binding.dense import rows
from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.nest import power_of_two
from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.binding.softmax import ADDITION_CYCLES, PIECES, cycles_in_pieces
from edgeq.engines.cuda.estimating.cost import Demand, estimate
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, View, Work
from edgeq.engines.cuda.program.nodes import Dense, Dequantize, Mean, Node, Pooling, Softmax

THREADS = 256
PARTS = (8, 32)  # lanes that share outputs
OUTPUTS = (1, 4)  # of a thread at once
TURNS = (1, 2, 8)  # of a block
STATIC_SHARED_BYTES = 48 * 1024
FEW_CLASSES = 64  # so few that a softmax adds them one after the other
LATENCY_CYCLES = 600  # the cost model's round of loads
BEST = 3


@dataclass(frozen=True, eq=False)
class Case:
    """The parts of a tail, and where x, the logits and y lie."""

    site: Site
    average: Mean | Pooling | None
    dense: Dense
    softmax: Softmax | None
    dequantize: Dequantize | None
    x: Pixels  # [rows, pixels, 1, features]
    logits: Pixels
    y: View

    @classmethod
    def of(cls, parts: Sequence[Node], site: Site) -> Case | None:
        """Return the case; None where the parts are no tail, or one too large for a block."""
        average, dense, softmax, dequantize = _sorted(parts)
        if dense is None or len(parts) < 2:
            return None
        outputs, features = dense.weights.shape
        if dense.epilogue.addition:
            return None
        source, y = site.view((average or dense).x), site.view(parts[-1].y)
        x = Pixels.of(source) if average else rows(source, features)
        if average:
            x = Pixels(x.pointer, x.n, x.h * x.w, 1, x.channels, x.pitch, x.owns_padding)
        logits = rows(site.view(dense.y), outputs)
        return cls(site, average, dense, softmax, dequantize, x, logits, y)

    @property
    def outputs(self) -> int:
        """Return the outputs of a row."""
        return len(self.dense.weights)

    @property
    def row_pitch(self) -> int:
        """Return the elements from one row of y to the next."""
        return self.y.pitch if self.y.shape[-1] == self.outputs else self.outputs

    @property
    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        products = self.x.n * self.dense.weights.size
        read = self.x.bytes + self.dense.weights.size + 8 * self.outputs
        return Work(products, read, self.x.n * self.outputs * self.y.itemsize)


def _sorted(
    parts: Sequence[Node],
) -> tuple[Mean | Pooling | None, Dense | None, Softmax | None, Dequantize | None]:
    average = next((part for part in parts if isinstance(part, Mean | Pooling)), None)
    dense = next((part for part in parts if isinstance(part, Dense)), None)
    softmax = next((part for part in parts if isinstance(part, Softmax)), None)
    dequantize = next((part for part in parts if isinstance(part, Dequantize)), None)
    return average, dense, softmax, dequantize


def choices(parts: Sequence[Node], site: Site) -> tuple[Choice, ...]:
    """Return the likeliest of the kernels for all parts at once, best first by estimate."""
    found = sorted(candidates(parts, site), key=lambda choice: choice.microseconds)
    return tuple(found[:BEST])


def candidates(nodes: Sequence[Node], site: Site) -> Iterator[Choice]:
    """Yield every kernel for all parts at once; none where they are no tail."""
    case = Case.of(nodes, site)
    if case is None:
        return
    for parts in PARTS:
        for outputs in OUTPUTS:
            for turns in TURNS:
                block = Block(case, parts, outputs, turns)
                is_sound = block.shared_bytes <= STATIC_SHARED_BYTES
                if is_sound and (turns == 1 or block.outputs < 2 * case.outputs):
                    yield block.choice()


@dataclass(frozen=True, eq=False)
class Block:
    """How a block shares out its outputs."""

    case: Case
    parts: int
    outputs_at_once: int
    turns: int

    @property
    def outputs(self) -> int:
        """Return the outputs of a block."""
        return THREADS // self.parts * self.outputs_at_once * self.turns

    @property
    def grid(self) -> tuple[int, int, int]:
        """Return the blocks along outputs and rows."""
        return -(-self.case.outputs // self.outputs), self.case.x.n, 1

    @property
    def split(self) -> int:
        """Return the threads that share the pixels of four channels."""
        words = -(-self.case.x.channels // 4)
        return max(1, min(power_of_two(self.case.x.h), power_of_two(THREADS // words + 1) // 2))

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory of a block: a row and its sums, terms, tables, maxima."""
        row = round_up(self.case.x.channels, 16)
        sums = 4 * self.split * round_up(self.case.x.channels, 4) if self.case.average else 0
        return row + sums + 5 * round_up(self.case.outputs, 4) + 4 * THREADS + 2048

    @property
    def load_bytes(self) -> int:
        """Return how many channels of x can be loaded at once."""
        x = self.case.x
        return 4 if x.alignment >= 4 and x.has_room(round_up(x.channels, 4)) else 1

    def choice(self) -> Choice:
        """Return it with its estimate."""
        found = estimate(self.case.site.target, self.demand)
        name = f"tail {self.parts}x{self.outputs_at_once}x{self.turns}"
        return Choice(name, found.microseconds, self.bind)

    @property
    def demand(self) -> Demand:
        """Return what the launch asks of a board."""
        case, blocks = self.case, self.grid[0] * self.grid[1]
        pixels = case.x.h * -(-case.x.channels // 4) / THREADS if case.average else 0
        loads = pixels * (5 if self.load_bytes == 4 else 14)
        chunks = -(-case.x.channels // (16 * self.parts))
        dense = self.turns * (chunks * (2 + 5 * self.outputs_at_once) + 16 * self.outputs_at_once)
        added = _sum_cycles(case.outputs) if case.softmax else 0
        return Demand(
            blocks=blocks,
            threads=THREADS,
            moved_bytes=case.work.read_bytes + case.work.written_bytes,
            fetched_bytes=blocks * case.x.h * case.x.channels + case.dense.weights.size,
            instructions=loads + dense + 60,
            rounds=2 + pixels / 8 + self.turns + added / LATENCY_CYCLES,
            registers=64,
        )

    def bind(self) -> tuple[Launch, ...]:
        """Place the weights, the tables and a counter for each row."""
        case, site = self.case, self.case.site
        kernel = Kernel("tail", sorted_constants(self._constants()), THREADS)
        outputs, pitch = self.grid[0] * self.outputs, round_up(case.x.channels, 16)
        weights = site.constant(padded(case.dense.weights, outputs, pitch))
        ending = Ending(case.dense.epilogue, case.logits, None)
        bias, scale, _, table = ending.pointers(site)
        terms = site.constant(case.softmax.table.astype(np.float32)) if case.softmax else bias
        is_shared = case.softmax is not None and self.grid[0] > 1
        counters = site.scratch(4 * case.x.n) if is_shared else bias
        pointers: tuple[Pointer, ...] = (case.x.pointer, weights, bias, scale, table)
        pointers += (case.logits.pointer, terms, counters, case.y.pointer)
        label = site.value(case.dense.y).name
        return (Launch(kernel, self.grid, pointers, label, case.work),)

    def _constants(self) -> dict[str, Constant]:
        case, ending = self.case, Ending(self.case.dense.epilogue, self.case.logits, None)
        return {
            **ending.constants(),
            "PARTS": self.parts,
            "OUTPUTS": self.outputs_at_once,
            "TURNS": self.turns,
            "SPLIT": self.split,
            "COUNT": case.x.h,
            "K": case.x.channels,
            "K_PITCH": round_up(case.x.channels, 16),
            "O": case.outputs,
            "X_PITCH": case.x.pitch,
            "LOGITS_PITCH": case.logits.pitch,
            "Y_PITCH": case.row_pitch,
            "LOAD_BYTES": self.load_bytes,
            **_average_constants(case.average),
            **_softmax_constants(case.softmax),
            **_dequantize_constants(case.dequantize),
        }


def _average_constants(node: Mean | Pooling | None) -> dict[str, Constant]:
    if node is None:
        return {"REDUCE": 0}
    bounds: dict[str, Constant] = {"AVERAGE_LOW": node.low, "AVERAGE_HIGH": node.high}
    if isinstance(node, Pooling):
        return {"REDUCE": 2, **bounds}
    return {
        "REDUCE": 1,
        "AVERAGE_SCALE": float(np.float32(node.scale)),
        "AVERAGE_OFFSET": float(np.float32(node.offset)),
        **bounds,
    }


def _sum_cycles(classes: int) -> float:
    """Return how long the sum of a softmax takes."""
    return ADDITION_CYCLES * classes if classes <= FEW_CLASSES else cycles_in_pieces(classes)


def _softmax_constants(node: Softmax | None) -> dict[str, Constant]:
    if node is None:
        return {"SOFTMAX": 0}
    pieces = 1 if node.depth <= FEW_CLASSES else PIECES
    return {
        "SOFTMAX": 1,
        "SOFTMAX_SCALE": float(np.float32(node.scale)),
        "SOFTMAX_ZERO_POINT": node.zero_point,
        "PIECES": pieces,
        "PIECE": round_up(-(-node.depth // pieces), 4),
    }


def _dequantize_constants(node: Dequantize | None) -> dict[str, Constant]:
    if node is None:
        return {"DEQUANTIZE": 0}
    scale = float(np.float32(node.scale))
    zero_point = node.zero_point
    return {"DEQUANTIZE": 1, "DEQUANTIZE_SCALE": scale, "DEQUANTIZE_ZERO_POINT": zero_point}
