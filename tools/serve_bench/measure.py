"""`python -m tools.serve_bench.measure JOB.json`: one client process; its figures on stdout.

The first answer is held against LiteRT's before the clock runs: what is wrong is not timed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.serve_bench.clients import Client, open_client, target_of
from tools.serve_bench.statistics import Round, round_of
from tools.serve_bench.workloads import Workload

WARM_UP_S = 0.3
ERRORS_SHOWN = 3


@dataclass
class Thread:
    """One connection's requests, one after the other."""

    client: Client
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def run(self, first: int, count: int, until: float) -> None:
        """Ask until the clock says so, each of `count` inputs in turn."""
        ask, latencies, clock, index = self.client.ask, self.latencies_s, time.perf_counter, first
        now = clock()
        while now < until:
            try:
                ask(index % count)
            except Exception as error:  # noqa: BLE001 - whatever a client raises is a failed request
                self.errors[_line(error)] += 1
                now = clock()
            else:
                ended = clock()
                latencies.append(ended - now)
                now = ended
            index += 1


def verify(client: Client, workload: Workload) -> str:
    """Return what is wrong with the answers, or nothing."""
    for index, expected in enumerate(workload.outputs):
        values = np.asarray(client.output(client.ask(index))).ravel()
        expected = expected.ravel()
        if values.shape != expected.shape:
            return f"the answer has {values.size} values; {expected.size} are expected"
        if not np.allclose(values.astype(np.float64), expected.astype(np.float64), atol=1e-5):
            return f"the answer to input {index} is not LiteRT's"
    return ""


def measure(job: dict[str, Any]) -> Round | str:
    """Return a round's figures, or why there are none."""
    workload, target = Workload.read(Path(job["workload"])), target_of(job["target"])
    threads: list[Thread] = []
    try:
        for _ in range(job["concurrency"]):
            threads.append(Thread(open_client(job["client"], target, workload)))
        if wrong := verify(threads[0].client, workload):
            return wrong
        _together(threads, len(workload.inputs), WARM_UP_S)
        for thread in threads:
            thread.latencies_s.clear()
            thread.errors.clear()
        seconds = _together(threads, len(workload.inputs), job["seconds"])
    except Exception as error:  # noqa: BLE001 - the row says why, the benchmark goes on
        return _line(error)
    finally:
        for thread in threads:
            thread.client.close()
    latencies = [value for thread in threads for value in thread.latencies_s]
    failed = sum((thread.errors for thread in threads), Counter[str]())
    if not latencies:
        return f"no request succeeded: {failed.most_common(1)}"
    for text, count in failed.most_common(ERRORS_SHOWN):
        print(f"{count} x {text}", file=sys.stderr)
    return round_of(latencies, seconds, failed.total())


def _together(threads: list[Thread], count: int, seconds: float) -> float:
    """Run all for so long; returns how long it was."""
    started = time.perf_counter()
    until = started + seconds
    others = [threading.Thread(target=thread.run, args=(number, count, until))
              for number, thread in enumerate(threads[1:], 1)]  # fmt: skip
    for other in others:
        other.start()
    threads[0].run(0, count, until)
    for other in others:
        other.join()
    return time.perf_counter() - started


def _line(error: Exception) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def main() -> None:
    outcome = measure(json.loads(Path(sys.argv[1]).read_text()))
    told = {"reason": outcome} if isinstance(outcome, str) else {"round": asdict(outcome)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
