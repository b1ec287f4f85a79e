"""What the swap benchmarks found -> text."""

from __future__ import annotations

from collections.abc import Sequence

from tools.columns import aligned, shown
from tools.swap_bench.cases import CASES, INFER_S, Swap
from tools.swap_bench.load import as_told, ratio
from tools.swap_bench.overload import Overload
from tools.swap_bench.soak import Soak

MIB = 1 << 20
CASE_HEADER = ("case", "server", "steady req/s", "p99 ms", "during s", "requests", "failed",
               "p99 ms", "/ steady", "answered by, failures, what the server told")  # fmt: skip


def case_cells(swap: Swap) -> tuple[str, ...]:
    """Return one case of one server as text."""
    name = (f"{swap.case} {CASES[swap.case]}", swap.server)
    if swap.steady is None or swap.during is None:
        return (*name, *[""] * (len(CASE_HEADER) - 3), f"not measured: {swap.reason}")
    steady, during = swap.steady, swap.during
    versions = ", ".join(f"v{version}: {count}" for version, count in during.versions.items())
    remarks = [versions, as_told(during.failures), f"told: {swap.told}"]
    return (
        *name, f"{steady.requests / steady.seconds:.0f}", shown(steady.p99_ms, 2),
        f"{during.seconds:.1f}", str(during.requests), str(during.failed),
        shown(during.p99_ms, 2), shown(ratio(during.p99_ms, steady.p99_ms), 2),
        "; ".join(remark for remark in remarks if remark),
    )  # fmt: skip


def cases_text(swaps: Sequence[Swap], load_s: float, clients: int) -> str:
    """Return the table of the three cases."""
    how = (
        f"Swaps of a model that takes {load_s:g} s to load and {INFER_S * 1e3:g} ms to run, "
        f"{clients} client threads, JSON.\nedgeq: its daemon, in which each interpreter sleeps so "
        "long before it loads (a new version needs two:\none makes its golden outputs, one serves) "
        "and before it runs. MLServer, workers=0: load() and\npredict() await that sleep, unload() "
        "lets go of the model."
    )
    ordered = sorted(swaps, key=lambda swap: swap.case)
    return f"{how}\n{aligned(CASE_HEADER, map(case_cells, ordered))}"


def soak_text(soak: Soak) -> str:
    """Return the table of what the daemon held."""
    rows = [(str(held.swaps), f"{held.rss_bytes / MIB:.1f}", str(held.descriptors),
             str(held.threads)) for held in soak.held]  # fmt: skip
    phase = soak.all
    return (
        f"{soak.swaps} swaps in {soak.seconds:.0f} s, each a drop: {phase.requests} requests by "
        f"{len(phase.versions)} versions, {phase.failed} failed {as_told(phase.failures)}\n"
        f"p50 {shown(phase.p50_ms, 2)} ms, p99 {shown(phase.p99_ms, 2)} ms; "
        f"resident memory after / before: {soak.rss_ratio:.3f}\n"
        + aligned(("swaps", "RSS MiB", "descriptors", "threads"), rows)
    )


def overload_text(found: Overload) -> str:
    """Return what became of ten times the capacity."""
    head = (
        f"capacity {found.capacity:.0f} req/s (each inference sleeps 10 ms), offered "
        f"{found.offered:.0f} req/s, deadline {found.deadline_s * 1e3:.0f} ms"
    )
    latency = (
        f"p99 of the accepted {shown(found.accepted_p99_ms, 0)} ms, "
        f"of the refused {shown(found.refused_p99_ms, 0)} ms"
    )
    memory = (
        f"resident memory before {found.rss_before_bytes / MIB:.1f} MiB, "
        f"peak {found.rss_peak_bytes / MIB:.1f} MiB"
    )
    refused = f"503 without Retry-After: {found.refused_without_retry_after}"
    slow = [f"a client that sends its {name} a byte a second: {told}"
            for name, told in sorted(found.slow.items())]  # fmt: skip
    return "\n".join([head, f"answers: {as_told(found.statuses)}", refused, latency, memory, *slow])
