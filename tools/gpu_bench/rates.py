"""A layer's time and work -> its rates, and what share of the board's peaks they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.engines.cuda.estimating.boards import BOARDS, Board, board_for
from edgeq.engines.cuda.estimating.cost import roofline
from edgeq.engines.cuda.launch import Work
from edgeq.engines.cuda.planning.plan import Plan
from edgeq.engines.cuda.targets import Target

POSITION = re.compile(r"\b(\d+) [A-Z]")


@dataclass(frozen=True)
class LayerRate:
    """One step of a plan: the ops it carries out, how, how fast."""

    label: str
    choice: str
    microseconds: float
    estimated: float
    tops: float  # 10^12 int8 operations a second, two to a product
    gigabytes_per_s: float  # of what must be read and written once
    tops_share: float  # of the board's peak
    bandwidth_share: float
    roofline_share: float  # the least possible time over the measured one
    bound: str  # what the roofline says it waits for
    positions: tuple[int, ...]  # of the ops in the model


def layer_rates(plan: Plan, microseconds: Sequence[float], board: Board) -> list[LayerRate]:
    """Return the rates of each step from the microseconds of each launch."""
    rows, times = [], iter(microseconds)
    for step in plan.steps:
        taken = sum(next(times) for _ in step.launches)
        work = Work(
            sum(launch.work.multiply_accumulates for launch in step.launches),
            sum(launch.work.read_bytes for launch in step.launches),
            sum(launch.work.written_bytes for launch in step.launches),
        )
        rows.append(_rate(step.label, step.choice, step.microseconds, taken, work, board))
    return rows


def _rate(
    label: str, choice: str, estimated: float, taken: float, work: Work, board: Board
) -> LayerRate:
    seconds = max(taken, 1e-3) * 1e-6
    tops = 2e-12 * work.multiply_accumulates / seconds
    moved = 1e-9 * (work.read_bytes + work.written_bytes) / seconds
    roof = roofline(board, work)
    return LayerRate(
        label, choice, taken, estimated, tops, moved,
        tops / board.int8_tops, moved / board.gigabytes_per_s, roof.microseconds * 1e-6 / seconds,
        roof.bound, tuple(int(found) for found in POSITION.findall(label)),
    )  # fmt: skip


def board_of(name: str, target: Target) -> Board:
    """Return the board whose name the driver's name for the device contains, or the usual one."""
    same = [b for b in BOARDS if b.target == target and b.name.lower() in name.lower()]
    return max(same, key=lambda board: len(board.name)) if same else board_for(target)
