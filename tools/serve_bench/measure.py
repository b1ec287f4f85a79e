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
OPEN_LIMIT_S = 30.0  # until all are connected, or warm
GIVEN_UP = "another connection was not ready"


@dataclass
class Asking:
    """One connection's requests, one after the other; all that touches the client is one thread."""

    job: dict[str, Any]
    workload: Workload
    gate: threading.Barrier
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    reason: str = ""  # why there is nothing else

    def run(self, number: int) -> None:
        """Connect, hold the answers against LiteRT's (the first does), warm up, measure."""
        try:
            client = open_client(self.job["client"], target_of(self.job["target"]), self.workload)
            try:
                self.reason = verify(client, self.workload) if number == 0 else ""
                if self.reason:
                    self.gate.abort()
                self._measure(client, number)
            finally:
                client.close()
        except threading.BrokenBarrierError:
            self.reason = self.reason or GIVEN_UP
        except Exception as error:  # noqa: BLE001 - the row says why, the benchmark goes on
            self.reason = _line(error)
            self.gate.abort()

    def _measure(self, client: Client, first: int) -> None:
        self.gate.wait(OPEN_LIMIT_S)
        self._ask(client, first, WARM_UP_S)
        self.latencies_s.clear()
        self.errors.clear()
        self.gate.wait(OPEN_LIMIT_S)
        started = time.perf_counter()
        self._ask(client, first, self.job["seconds"])
        self.seconds = time.perf_counter() - started

    def _ask(self, client: Client, first: int, seconds: float) -> None:
        """Ask until the time is over, for each input in turn."""
        ask, latencies, clock, index = client.ask, self.latencies_s, time.perf_counter, first
        count, now = len(self.workload.inputs), clock()
        until = now + seconds
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
    workload = Workload.read(Path(job["workload"]))
    gate = threading.Barrier(job["concurrency"])
    asking = [Asking(job, workload, gate) for _ in range(job["concurrency"])]
    others = [threading.Thread(target=one.run, args=(number,))
              for number, one in enumerate(asking[1:], 1)]  # fmt: skip
    for other in others:
        other.start()
    asking[0].run(0)
    for other in others:
        other.join()
    reasons = [one.reason for one in asking if one.reason]
    if reasons:
        return next((reason for reason in reasons if reason != GIVEN_UP), GIVEN_UP)
    latencies = [value for one in asking for value in one.latencies_s]
    failed = sum((one.errors for one in asking), Counter[str]())
    if not latencies:
        return f"no request succeeded: {failed.most_common(1)}"
    for text, count in failed.most_common(ERRORS_SHOWN):
        print(f"{count} x {text}", file=sys.stderr)
    return round_of(latencies, max(one.seconds for one in asking), failed.total())


def _line(error: Exception) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def main() -> None:
    outcome = measure(json.loads(Path(sys.argv[1]).read_text()))
    told = {"reason": outcome} if isinstance(outcome, str) else {"round": asdict(outcome)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
