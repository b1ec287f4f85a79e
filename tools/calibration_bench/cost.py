"""Cases -> what edgeq's calibration of each costs, beside plain inference of the same model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.calibration_bench.cases import Case, write_samples
from tools.calibration_bench.children import Child, Report
from tools.columns import aligned, shown

SCRIPT = "edgeq_cost.py"
TIMED = (64, 512)
FEW, MANY = 64, 4096
RATIOS = ("ratio", "cpu_ratio")  # of the time, of the CPU time
HEADER = ("model", "infer ms", *(f"{of}x{n}" for n in TIMED for of in ("", "CPU ")),
          f"MiB {FEW}", f"MiB {MANY}", "ratio", "search ms", "max", "2048 bins", "")  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """One model's figures; by setting, as the child reported them."""

    model: str
    reports: dict[str, Report]

    def detail(self, setting: str, name: str) -> float | None:
        """Return a figure, or None where the child did not get there."""
        found = self.reports[setting].details.get(name)
        return None if found is None else float(found)

    @property
    def memory_ratio(self) -> float | None:
        """Return the peak of many samples over that of few."""
        few = self.reports[f"memory:{FEW}"].peak_rss_mib
        many = self.reports[f"memory:{MANY}"].peak_rss_mib
        usable = all(self.reports[f"memory:{n}"].is_ok for n in (FEW, MANY))
        return many / few if usable and few and many else None

    @property
    def failures(self) -> list[str]:
        """Return what did not get done, and why."""
        return [f"{s}: {r.status}: {r.reason}" for s, r in self.reports.items() if not r.is_ok]


def measure_costs(
    cases: Iterable[Case], threads: int, limit_s: float, work: Path
) -> Iterator[Cost]:
    """Measure each case in children of its own."""
    settings = [*(f"time:{n}" for n in TIMED), f"memory:{FEW}", f"memory:{MANY}", "search"]
    for case in cases:
        folder = work / case.name
        folder.mkdir()
        child, samples = Child(folder, threads, limit_s), write_samples(case, folder)
        reports = {}
        for setting in settings:
            print(f"{case.name}: {setting}", file=sys.stderr)
            out = folder / f"cost-{setting.replace(':', '-')}.none"
            reports[setting] = child.run(
                Path(sys.executable), SCRIPT, case.model, samples, out, setting=setting
            )
        yield Cost(case.name, reports)


def cost_table(costs: Iterable[Cost]) -> str:
    """Return the figures as text: x64 is the time of collecting 64 samples over inferring them."""
    return aligned(HEADER, map(_cells, costs))


def _cells(cost: Cost) -> tuple[str, ...]:
    memory = [cost.reports[f"memory:{n}"].peak_rss_mib for n in (FEW, MANY)]
    full = [cost.detail("search", f"{sides}_sided_2048_ms") for sides in ("one", "two")]
    return (
        cost.model,
        shown(cost.detail(f"time:{TIMED[0]}", "inference_ms"), 3),
        *(shown(cost.detail(f"time:{n}", of), 2) for n in TIMED for of in RATIOS),
        *(shown(mib, 1) for mib in memory),
        shown(cost.memory_ratio, 3),
        shown(cost.detail("search", "median_ms"), 2),
        shown(cost.detail("search", "max_ms"), 2),
        shown(max((ms for ms in full if ms is not None), default=None), 2),
        "; ".join(cost.failures),
    )
