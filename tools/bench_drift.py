"""Drift detection: false alarms, frames until a drift is found, cost; beside its peers.

    python tools/bench_drift.py                        # needs the shared models and data
    python tools/bench_drift.py --only vww96 --references 20 --json
    python tools/bench_drift.py --held --peers

All frames of a task run once through its INT8 reference model and are counted. References and
windows are then drawn from them, with replacement, so that windows without drift are truly without.
`alarms %` is what the daemon's defaults give, where 1 % is asked for; `any PSI %` the same without
the least PSI that matters, from chance's bounds alone. The standard error counts references: the
windows of one have its own deviation in common.

A drift begins after a full window without; the look is every 5 frames. The class mix leaves out
half of the classes; the stuck camera shows one frame for good. --held shows each scene for 1, 5 and
20 frames in a row, `plain %` where every one of them is taken for a frame of its own. --peers hands
windows of single values and classes to Evidently, whylogs and NannyML, each with its own defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.drift_bench.program import main

    return main(__doc__ or "")


if __name__ == "__main__":
    sys.exit(run())
