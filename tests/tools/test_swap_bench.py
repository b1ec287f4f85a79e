from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.errors import EngineError
from edgeq.tflite.runtime import Runner
from tools.serve_bench.identity import identity_model
from tools.serve_bench.wire import END, http_request
from tools.swap_bench.cases import CASES, Swap, small_request
from tools.swap_bench.load import Load, Phase, Sample, phase_of, ratio
from tools.swap_bench.overload import Outcome, SlowClients, offer, summary
from tools.swap_bench.program import (
    case_is_well,
    make_parser,
    overload_is_well,
    soak_is_well,
)
from tools.swap_bench.report import cases_text, overload_text, soak_text
from tools.swap_bench.slow_engine import REFUSED, slow_down
from tools.swap_bench.soak import Held, Soak

ROOT = Path(__file__).resolve().parents[2]
PHASE = Phase(2.0, 200, 0, 1.0, 4.0, {"1": 200})


class Answering:
    """A server that gives each of its answers in turn, again and again."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.address = ("127.0.0.1", int(self._listener.getsockname()[1]))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        turn = 0
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(10)
                received = b""
                with contextlib.suppress(ConnectionResetError):  # by a client that had to hang up
                    while (received := connection.recv(1 << 16)) and received != b"end":
                        connection.sendall(self._answers[turn % len(self._answers)])
                        turn += 1
                if received == b"end":
                    return

    def close(self) -> None:
        with socket.create_connection(self.address, 10) as connection:
            connection.sendall(b"end")
        self._thread.join(10)
        self._listener.close()


def response(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + END + body.encode()


@pytest.fixture
def answering() -> Iterator[list[Answering]]:
    """A list whose servers are closed at the end."""
    made: list[Answering] = []
    yield made
    for one in made:
        one.close()


def test_a_phase_counts_what_was_sent_in_it():
    samples = [
        Sample(0.5, 0.001, "1"),
        Sample(1.0, 0.002, "1"),
        Sample(1.5, 0.004, "2"),
        Sample(1.6, 0.1, failure="HTTP 400 not ready"),
        Sample(2.0, 0.001, "2"),
    ]
    phase = phase_of(samples, 1.0, 2.0)
    assert (phase.requests, phase.failed, phase.seconds) == (3, 1, 1.0)
    assert (phase.versions, phase.failures) == ({"1": 1, "2": 1}, {"HTTP 400 not ready": 1})
    assert phase.p50_ms == pytest.approx(3.0)  # a failure's latency is nobody's
    assert phase_of([], 0, 1).p99_ms is None
    assert ratio(4.0, 2.0) == 2
    assert ratio(None, 2.0) is ratio(1.0, None) is None


def test_a_load_tells_versions_from_failures_and_comes_back_after_an_error(answering):
    answering.append(
        Answering(
            response("200 OK", '{"model_version": "7"}'),
            response("400 Bad Request", "not ready"),
            response("500 Internal Server Error", ""),
        )
    )
    load = Load(answering[0].address, small_request(), 1)
    begun = time.perf_counter()
    load.start()
    while time.perf_counter() - begun < 0.2:
        time.sleep(0.01)
    phase = phase_of(load.stop(), begun, time.perf_counter())
    assert set(phase.versions) == {"7"}
    assert set(phase.failures) == {"HTTP 400 not ready", "HTTP 500"}
    assert 0 < phase.failed < phase.requests


def test_a_server_that_is_gone_is_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ("127.0.0.1", listener.getsockname()[1])
    load = Load(address, small_request(), 1)
    load.start()
    time.sleep(0.05)
    samples = load.stop()
    assert samples
    assert all("ConnectionRefused" in sample.failure for sample in samples)


def test_engines_are_slowed_and_refuse_what_is_marked(monkeypatch, tmp_path):
    monkeypatch.setattr(Runner, "__init__", Runner.__init__)  # put back at the end
    monkeypatch.setattr(Runner, "run", Runner.run)
    loads = tmp_path / "loads"
    slow_down(0.05, 0.05, loads)
    begun = time.perf_counter()
    runner = Runner(identity_model((1, 1, 1, 2)))
    assert time.perf_counter() - begun >= 0.05
    begun = time.perf_counter()
    runner.run({"x": runner.run({"x": _zeros(runner)})["y"]})
    assert time.perf_counter() - begun >= 0.1
    with pytest.raises(EngineError, match=REFUSED):
        Runner(identity_model((1, 1, 1, 2), REFUSED))
    assert len(loads.read_text().splitlines()) == 2


def _zeros(runner: Runner):
    import numpy as np

    return np.zeros(runner.inputs[0].shape, np.uint8)


def test_only_edgeq_s_failures_count_against_it():
    failed = replace(PHASE, failed=3, failures={"HTTP 400 not ready": 3})
    swaps = [
        Swap("edgeq", "A", PHASE, PHASE, "version 2 serves"),
        Swap("MLServer", "A", PHASE, failed, "HTTP 200"),
        Swap("MLServer", "B", reason="not installed"),
    ]
    assert [case_is_well(swap) for swap in swaps] == [True, True, True]
    assert not case_is_well(replace(swaps[0], during=failed))
    text = cases_text(swaps, 2.0, 4)
    assert "takes 2 s to load" in text
    assert "3 x HTTP 400 not ready" in text
    assert "not measured: not installed" in text
    assert set(CASES) == {"A", "B", "C"}


def test_a_soak_is_well_where_nothing_failed_and_nothing_grew():
    soak = Soak(10, 5.0, PHASE, (Held(0, 100 << 20, 30, 9), Held(10, 105 << 20, 31, 9)))
    assert soak.rss_ratio == pytest.approx(1.05)
    assert soak_is_well(soak)
    assert not soak_is_well(replace(soak, all=replace(PHASE, failed=1)))
    for grown in (Held(10, 120 << 20, 30, 9), Held(10, 100 << 20, 40, 9)):
        assert not soak_is_well(replace(soak, held=(soak.held[0], grown)))
    assert "after / before: 1.050" in soak_text(soak)


def test_an_overload_is_summed_up():
    outcomes = [
        *[Outcome(200, 0.1)] * 99,
        Outcome(200, 0.4),
        Outcome(503, 0.001, has_retry_after=True),
        Outcome(503, 0.002),
        Outcome(0),
        Outcome(-1),
    ]
    slow = {"head": "cut off after 9.0 s: HTTP/1.1 408", "body": "cut off after 9.0 s"}
    found = summary(outcomes, 100.0, 1000.0, (1 << 20, 2 << 20), slow)
    assert found.statuses["200"] == 100
    assert found.statuses["not sent: no connection idle"] == found.statuses["connection failed"]
    assert found.refused_without_retry_after == 1
    assert not overload_is_well(found)
    well = replace(found, refused_without_retry_after=0)
    assert overload_is_well(well)
    assert not overload_is_well(replace(well, accepted_p99_ms=600.0))
    assert not overload_is_well(replace(well, slow={"head": "still connected after 120 s"}))
    assert "peak 2.0 MiB" in overload_text(found)


def test_requests_are_offered_at_a_rate_whatever_the_answers(answering):
    answering.append(
        Answering(
            response("503 Service Unavailable", "full", "Retry-After: 1", "Connection: close")
        )
    )
    outcomes = asyncio.run(offer(answering[0].address, http_request("/"), 50.0, 0.2))
    assert 5 <= len(outcomes) <= 10
    told = [outcome for outcome in outcomes if outcome.status == 503]
    assert told
    assert all(outcome.has_retry_after for outcome in told)


def test_a_slow_client_tells_when_it_was_cut_off(answering):
    answering.append(Answering(response("408 Request Timeout", "")))
    slow = SlowClients(answering[0].address, http_request("/", b"body"))
    slow.start()
    assert all("cut off after" in told and "408" in told for told in slow.join().values())


def test_the_programs_have_help_with_an_example():
    for tool in ("bench_serve", "bench_swap"):
        done = subprocess.run(
            [sys.executable, ROOT / f"tools/{tool}.py", "--help"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert f"python -m tools.{tool}" in done.stdout
    assert make_parser("").parse_args(["--swaps", "200"]).swaps == 200
