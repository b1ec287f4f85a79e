"""A Plan -> the text that a person reads: each launch, its kernel, and what the board must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.engines.cuda.compiling.cubin import Resources
from edgeq.engines.cuda.estimating.boards import Board, board_for
from edgeq.engines.cuda.estimating.cost import roofline
from edgeq.engines.cuda.estimating.occupancy import occupancy
from edgeq.engines.cuda.launch import Kernel, Launch, Work
from edgeq.engines.cuda.planning.plan import Plan, Step

HEADER = (
    "step", "kernel", "grid", "threads", "regs", "shared", "spill", "occ %", "MMAC", "KB",
    "est us", "roof us", "bound",
)  # fmt: skip


def plan_text(
    plan: Plan,
    resources: Mapping[Kernel, Resources] | None = None,
    board: Board | None = None,
) -> str:
    """Return a table of the launches with the roofline of each layer, and the sums.

    Args:
        plan: of any target.
        resources: what its compiled kernels take; with it occupancy is in the table too.
        board: what the roofline is for; by default the board that is usual for the target.
    """
    board = board or board_for(plan.target)
    rows: list[tuple[str, ...]] = [HEADER]
    for number, step in enumerate(plan.steps):
        for launch in step.launches:
            rows.append(_row(number, step, launch, plan, resources or {}, board))
    labels = [f"{n:4d}  {step.label}  [{step.choice}]" for n, step in enumerate(plan.steps)]
    return "\n".join([*_summary(plan, board), "", *_aligned(rows), "", *labels, ""])


def _summary(plan: Plan, board: Board) -> list[str]:
    work = [launch.work for launch in plan.launches]
    bound = sum(roofline(board, one).microseconds for one in work)
    moved = sum(_moved(one) for one in work)
    rows = {
        "target": f"{plan.target.name}, figures for {board.name}: {board.multiprocessors} "
        f"multiprocessors, {board.int8_tops:.1f} INT8 TOPS, {board.gigabytes_per_s:.0f} GB/s",
        "launches": f"{len(plan.launches)} of {len(plan.kernels)} different kernels",
        "memory": f"{_kilobytes(plan.arena_bytes)} KB of activations, "
        f"{_kilobytes(len(plan.constants))} KB of weights, "
        f"{_kilobytes(plan.scratch_bytes)} KB of scratch",
        "work": f"{sum(w.multiply_accumulates for w in work) / 1e6:.2f} MMAC, "
        f"{_kilobytes(moved)} KB moved",
        "estimate": f"{sum(step.microseconds for step in plan.steps):.1f} us; "
        f"by the roofline alone {bound:.1f} us",
    }
    return [f"{name:9} {text}" for name, text in rows.items()]


def _row(
    number: int,
    step: Step,
    launch: Launch,
    plan: Plan,
    resources: Mapping[Kernel, Resources],
    board: Board,
) -> tuple[str, ...]:
    kernel, roof = launch.kernel, roofline(board, launch.work)
    share = step.microseconds / len(step.launches)
    return (
        str(number),
        kernel.template,
        "x".join(str(n) for n in launch.grid),
        str(kernel.threads),
        *_resources(plan, kernel, resources.get(kernel)),
        f"{launch.work.multiply_accumulates / 1e6:.3f}",
        str(_kilobytes(_moved(launch.work))),
        f"{share:.1f}",
        f"{roof.microseconds:.2f}",
        roof.bound,
    )


def _resources(plan: Plan, kernel: Kernel, own: Resources | None) -> tuple[str, ...]:
    """Return registers, shared and spilled bytes, occupancy; dashes before it is compiled."""
    if own is None:
        return ("-", "-", "-", "-")
    shared = own.shared_bytes + kernel.dynamic_shared_bytes
    resident = occupancy(plan.target, kernel.threads, own.registers, shared)
    ratio = f"{100 * resident.ratio:.0f}"
    return (str(own.registers), str(shared), str(own.stack_bytes), ratio)


def _moved(work: Work) -> int:
    return work.read_bytes + work.written_bytes


def _kilobytes(size: int) -> int:
    return -(-size // 1024)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return [
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
