"""The three swaps of a model that takes 2 s to load, under load, of edgeq and of MLServer.

A  a new version beside the old
B  a new version that fails to load
C  a reload of the same version
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.calibration_bench.environments import MissingEnvironment, python_of
from tools.serve_bench.edgeq_daemon import EdgeqDaemon, start_edgeq
from tools.serve_bench.identity import identity_model
from tools.serve_bench.processes import ServerError, free_ports, wait_until_ready
from tools.serve_bench.servers import REQUIREMENTS, start_mlserver, write_mlserver_model
from tools.serve_bench.wire import Connection, http_request, json_request
from tools.swap_bench.load import Load, Phase, phase_of
from tools.swap_bench.slow_engine import REFUSED

MODEL = "m"
SHAPE = (1, 4, 4, 1)  # small: JSON, which both take, is then no work worth speaking of
INFER_S = 0.01  # of both: without it no request is ever inside while a model is replaced
STEADY_S = 3.0
AFTER_S = 0.5
CALL_LIMIT_S = 60.0
SLOW_RUN = ("-m", "tools.swap_bench.slow_engine", "run")
LOADS = "loads.txt"

CASES = {
    "A": "a new version beside the old",
    "B": "a new version that fails to load",
    "C": "a reload of the same version",
}


@dataclass(frozen=True)
class Swap:
    """What one server did in one case; `told` is what its own call or status answered."""

    server: str
    case: str
    steady: Phase | None = None
    during: Phase | None = None
    told: str = ""
    reason: str = ""  # why there is nothing else


Trigger = Callable[[], str]  # returns once the swap is over, with what the server told of it


@dataclass(frozen=True)
class Contestant:
    """A server under test: where it is, and how each case is brought about."""

    name: str
    address: tuple[str, int]
    triggers: dict[str, Trigger]


def small_request() -> bytes:
    values = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    return json_request(MODEL, "x", values, "UINT8", "y")


def run_cases(load_s: float, clients: int, peers: Path, work: Path) -> list[Swap]:
    """Run all cases of both servers; one that is missing says why."""
    results = []
    for name, open_ in (("edgeq", edgeq), ("MLServer", mlserver)):
        try:
            with open_(load_s, peers, work) as contestant:
                results += [run_case(contestant, case, clients) for case in CASES]
        except (ServerError, MissingEnvironment) as error:
            results += [Swap(name, case, reason=str(error)) for case in CASES]
        print(f"{name}: done", file=sys.stderr)
    return results


def run_case(contestant: Contestant, case: str, clients: int) -> Swap:
    """Send requests before, during and after one swap."""
    load = Load(contestant.address, small_request(), clients)
    load.start()
    try:
        time.sleep(STEADY_S)
        begun = time.perf_counter()
        told = contestant.triggers[case]()
        time.sleep(AFTER_S)
        ended = time.perf_counter()
    finally:
        samples = load.stop()
    steady = phase_of(samples, begun - STEADY_S, begun)
    return Swap(contestant.name, case, steady, phase_of(samples, begun, ended), told)


# ---- edgeq


@contextmanager
def edgeq(load_s: float, _: Path, work: Path) -> Iterator[Contestant]:
    """The daemon, of which every interpreter sleeps so long before it loads."""
    root = work / "edgeq"
    root.mkdir()
    loads = root / LOADS
    environ = {
        "BENCH_LOAD_S": str(load_s),
        "BENCH_INFER_S": str(INFER_S),
        "BENCH_LOADS": str(loads),
    }
    daemon = start_edgeq(root, run=SLOW_RUN, environ=environ)
    try:
        daemon.drop(identity_model(SHAPE, "1"), MODEL)
        daemon.wait_served(MODEL)
        triggers = {
            "A": lambda: _counted(loads, lambda: _drop_another(daemon)),
            "B": lambda: _counted(loads, lambda: _drop_refused(daemon)),
            "C": lambda: _counted(loads, lambda: _reload(daemon)),
        }
        yield Contestant("edgeq", ("127.0.0.1", daemon.http_port), triggers)
    finally:
        daemon.running.stop()


def _counted(loads: Path, trigger: Trigger) -> str:
    """Say with what the daemon told how often an interpreter was loaded."""
    before = _lines(loads)
    told = trigger()
    return f"{told}; {_lines(loads) - before} loads"


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _drop_another(daemon: EdgeqDaemon) -> str:
    before = daemon.model(MODEL)["live"]["version"]
    daemon.drop(identity_model(SHAPE, "2"), MODEL)
    return f"version {daemon.wait_served(MODEL, before)} serves, {before} did"


def _drop_refused(daemon: EdgeqDaemon) -> str:
    before = daemon.model(MODEL)["live"]["version"]
    daemon.drop(identity_model(SHAPE, REFUSED), MODEL)
    deadline = time.monotonic() + CALL_LIMIT_S
    while time.monotonic() < deadline:
        model = daemon.model(MODEL)
        if REFUSED in str(model.get("reason", "")):
            return f"version {model['live']['version']} serves, {before} did"
        time.sleep(0.05)
    raise ServerError(f"the daemon did not refuse the version: {daemon.model(MODEL)}")


def _reload(daemon: EdgeqDaemon) -> str:
    status, text = _call(daemon.unix_socket)
    return f"HTTP {status} {text}".strip()


# ---- MLServer


@contextmanager
def mlserver(load_s: float, peers: Path, work: Path) -> Iterator[Contestant]:
    """MLServer without parallel workers, of which `load` awaits a sleep."""
    python = python_of("mlserver", peers, REQUIREMENTS)
    folder = work / "mlserver"
    folder.mkdir()
    http, grpc, metrics = free_ports(3)
    (folder / "settings.json").write_text(
        f'{{"host": "127.0.0.1", "http_port": {http}, "grpc_port": {grpc}, '
        f'"metrics_port": {metrics}, "parallel_workers": 0, "debug": false}}'
    )
    slow = {"load_s": load_s, "infer_s": INFER_S}
    write_mlserver_model(folder / "v1", MODEL, "1", output="y", **slow)
    running = start_mlserver(python, folder)
    address = ("127.0.0.1", http)

    def place(version: str, *, fails: bool = False) -> str:
        if version:
            write_mlserver_model(folder / f"v{version}", MODEL, version, output="y",
                                 fails=fails, **slow)  # fmt: skip
        status, text = _call(address)
        return f"HTTP {status} {text}".strip()

    def reload() -> str:
        (folder / "v3/model-settings.json").unlink(missing_ok=True)  # the one that failed
        return place("")

    try:
        wait_until_ready(running, http, f"/v2/models/{MODEL}/ready")
        yield Contestant("MLServer", address, {"A": lambda: place("2"),
                                               "B": lambda: place("3", fails=True),
                                               "C": reload})  # fmt: skip
    finally:
        running.stop()


def _call(address: tuple[str, int] | Path) -> tuple[int, str]:
    """Ask for a load; return the status and the answer's text."""
    connection = Connection(address, CALL_LIMIT_S)
    headers = {"Content-Type": "application/json"}
    request = http_request(f"/v2/repository/models/{MODEL}/load", b"{}", headers=headers)
    try:
        answer = connection.ask(request)
    except OSError as error:
        return 0, repr(error)
    finally:
        connection.close()
    return answer.status, answer.body.decode(errors="replace")[:80]
