"""A daemon in the field, in short: traffic, drops, drift, kills, a full disk, and what must hold.

    python -m tools.soak --seconds 120 --seed 1
    python -m tools.soak --seconds 1200 --seed 1 --json soak.json --keep logs --verbose

A real daemon serves three models to clients over TCP, a Unix socket, gRPC and shared memory, while
good and bad files are dropped, versions rolled back, pinned, recalibrated and reloaded, its inputs
drift, its disk fills, its build child and itself are killed, and clients are slow or hostile. The
order of it all is drawn from the seed: the same seed, the same steps (tools/soaking/plan.py).

What must hold: every answer is, to the bit, what the version and engine that it names say to that
input; no request fails but where the daemon was down by the soak's own hand, or is told when to
come back; no commit is lost, no number goes back but by a rollback, only good drops serve; memory,
descriptors, threads, children and disk stay bounded; `edgeq status` answers; no traceback, no
leftovers, a clean stop. Each violation is told with its time, its step and evidence; the exit code
is 1 with any.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.soaking.small_disk import leave_mounts

    why_no_disk = leave_mounts()  # while there is one thread: NumPy starts more
    from tools.soaking.program import main

    return main(__doc__ or "", why_no_disk)


if __name__ == "__main__":
    sys.exit(run())
