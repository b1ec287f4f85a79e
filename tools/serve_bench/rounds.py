"""Servers and a workload -> rows: each client of each server, in rounds that take turns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.serve_bench.clients import target_json
from tools.serve_bench.processes import ServerError
from tools.serve_bench.servers import NO_MODEL, Server, Started
from tools.serve_bench.statistics import Round
from tools.serve_bench.workloads import Workload

REPOSITORY = Path(__file__).resolve().parents[2]
CHILD_LIMIT_S = 60.0  # of a client process, beyond the seconds that it measures


@dataclass
class Row:
    """One client of one server at one concurrency; without a reason there are rounds."""

    workload: str
    server: str
    client: str
    concurrency: int
    rounds: list[Round] = field(default_factory=list)
    reason: str = ""
    rss_bytes: int = 0  # of the server and its children, after the last round

    @property
    def is_measured(self) -> bool:
        return bool(self.rounds) and not self.reason

    @property
    def rates(self) -> list[float]:
        return [one.rate for one in self.rounds]

    @property
    def p50s_ms(self) -> list[float]:
        return [one.p50_ms for one in self.rounds]

    @property
    def p99s_ms(self) -> list[float]:
        return [one.p99_ms for one in self.rounds]

    @property
    def errors(self) -> int:
        return sum(one.errors for one in self.rounds)


@dataclass(frozen=True)
class Options:
    """What holds for the whole run."""

    peers: Path
    rounds: int
    seconds: float
    concurrency: tuple[int, ...]
    only: str = ""  # rows whose "server client" holds one of these, comma separated


def rows_of(servers: Sequence[Server], workload: Workload, options: Options) -> list[Row]:
    """Return the rows to measure; those of one concurrency stand together."""
    words = [word.strip().lower() for word in options.only.split(",") if word.strip()]
    return [
        Row(workload.name, server.name, client, concurrency)
        for concurrency in options.concurrency
        for server in servers
        for client in server.clients
        if workload.name == NO_MODEL or not server.is_identity_only
        if not words or any(word in f"{server.name} {client}".lower() for word in words)
    ]


def in_turn(rows: Sequence[Row], number: int) -> list[Row]:
    """Return the rows of a round: each begins elsewhere, every second one runs backwards."""
    shift = number * len(rows) // 3
    turned = [*rows[shift:], *rows[:shift]]
    return turned[::-1] if number % 2 else turned


def start_servers(
    servers: Sequence[Server], rows: Sequence[Row], workload: Workload, options: Options,
    work: Path, started: dict[str, Started],
) -> None:  # fmt: skip
    """Add what the rows need to `started`; a server that is missing gives its rows the reason."""
    wanted = {row.server for row in rows}
    for number, server in enumerate(servers):
        if server.name not in wanted:
            continue
        folder = work / f"{workload.name}-{number}"
        try:
            started[server.name] = server.start(options.peers, folder, workload)
        except ServerError as error:
            for row in rows:
                if row.server == server.name:
                    row.reason = str(error)
            print(f"{server.name}: {error}", file=sys.stderr)


def run_rounds(
    rows: Sequence[Row], started: dict[str, Started], workload: Workload, options: Options,
    work: Path,
) -> None:  # fmt: skip
    """Measure every row once a round; what fails once is not asked again."""
    given = workload.write(work / f"{workload.name}.npz")
    for number in range(options.rounds):
        for row in in_turn(rows, number):
            if not row.reason:
                measure_row(row, started[row.server], given, options.seconds, work)
        print(f"{workload.name}: round {number + 1} of {options.rounds} done", file=sys.stderr)
    for row in rows:
        if row.is_measured and (running := started[row.server].running):
            row.rss_bytes = running.rss_bytes


def measure_row(row: Row, started: Started, workload: Path, seconds: float, work: Path) -> None:
    """Run one client process, and put its figures or its reason into the row."""
    job = work / "job.json"
    told = {"client": row.client, "target": target_json(started.target), "seconds": seconds,
            "concurrency": row.concurrency, "workload": str(workload)}  # fmt: skip
    job.write_text(json.dumps(told))
    command = [sys.executable, "-m", "tools.serve_bench.measure", str(job)]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True,
                              timeout=seconds + CHILD_LIMIT_S, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        row.reason = f"the client was not done {CHILD_LIMIT_S:g} s after its time"
        return
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        row.reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        return
    outcome = json.loads(lines[-1])
    if "round" in outcome:
        row.rounds.append(Round(**outcome["round"]))
    else:
        row.reason = outcome["reason"]
