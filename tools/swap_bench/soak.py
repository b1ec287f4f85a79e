"""Many swaps under load -> failures, and what the daemon holds after each tenth of them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.serve_bench.edgeq_daemon import EdgeqDaemon, start_edgeq
from tools.serve_bench.identity import SHAPE, identity_model, with_note
from tools.serve_bench.processes import status_bytes
from tools.serve_bench.wire import binary_request
from tools.swap_bench.load import Load, Phase, phase_of

MODEL = "m"
STEADY_S = 3.0
SHOWN = 10  # lines of a run
PROBATION_S = 1.0
AFTER_S = 3.0
EXTRA = f"swap: {{probation: {{window_s: {PROBATION_S}}}}}\n"


@dataclass(frozen=True)
class Held:
    """What the daemon's process holds."""

    swaps: int
    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Soak:
    """A whole run."""

    swaps: int
    seconds: float
    all: Phase
    held: tuple[Held, ...]  # the first before any swap, the last once its version is proven

    @property
    def rss_ratio(self) -> float:
        """Resident memory after the last swap to that before the first."""
        return self.held[-1].rss_bytes / max(1, self.held[0].rss_bytes)


def held_by(pid: int, swaps: int) -> Held:
    folder = Path(f"/proc/{pid}")
    descriptors = len(list((folder / "fd").iterdir()))
    threads = len(list((folder / "task").iterdir()))
    return Held(swaps, status_bytes(pid, "VmRSS"), descriptors, threads)


def run_soak(swaps: int, clients: int, work: Path) -> Soak:
    """Drop one version after the other, each as soon as the one before serves."""
    root = work / "soak"
    root.mkdir()
    daemon = start_edgeq(root, extra=EXTRA)
    values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    request = binary_request(MODEL, "x", values, "UINT8", "y")
    load = Load(("127.0.0.1", daemon.http_port), request, clients)
    try:
        content = identity_model()
        daemon.drop(content, MODEL)
        daemon.wait_served(MODEL)
        load.start()
        time.sleep(STEADY_S)
        begun = time.perf_counter()
        held = _swap(daemon, content, swaps)
        ended = time.perf_counter()
        return Soak(swaps, ended - begun, phase_of(load.stop(), begun, ended), tuple(held))
    finally:
        load.stop()
        daemon.running.stop()


def _swap(daemon: EdgeqDaemon, content: bytes, swaps: int) -> list[Held]:
    held = [held_by(daemon.running.pid, 0)]
    version = daemon.wait_served(MODEL)
    for number in range(1, swaps + 1):
        daemon.drop(with_note(content, f"version {number}"), MODEL)
        version = daemon.wait_served(MODEL, version)
        if number % max(1, swaps // SHOWN) == 0:
            held.append(held_by(daemon.running.pid, number))
            print(f"{number} of {swaps} swaps", file=sys.stderr)
    time.sleep(PROBATION_S + AFTER_S)  # until then the version before is kept, to go back to
    held.append(held_by(daemon.running.pid, swaps))
    return held
