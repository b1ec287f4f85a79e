from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.intake.probe import examine
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tools.calibration_bench import environments
from tools.serve_bench import wire
from tools.serve_bench.clients import KINDS, Target, open_client, target_json, target_of
from tools.serve_bench.edgeq_daemon import CONFIG
from tools.serve_bench.identity import SHAPE, identity_model, with_note
from tools.serve_bench.measure import measure, verify
from tools.serve_bench.perf_analyzer import read_report, run_perf_analyzer
from tools.serve_bench.processes import (
    ServerError,
    free_ports,
    session_of,
    start,
    wait_until_ready,
)
from tools.serve_bench.program import make_parser, sweep_lines
from tools.serve_bench.regions import Region
from tools.serve_bench.rounds import Options, Row, in_turn, rows_of, run_rounds, start_servers
from tools.serve_bench.servers import BARE, BOUND, EDGEQ, REQUIREMENTS, SERVERS, Started
from tools.serve_bench.statistics import Round, paired_difference, paired_ratio, round_of, spread
from tools.serve_bench.table import best_mlserver, comparisons, json_of, table_of
from tools.serve_bench.workloads import Workload, identity_workload, model_workload, quantized

PEERS = Path("/nowhere")


def server(name: str):
    return next(one for one in SERVERS if one.name == name)


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> Workload:
    return identity_workload(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def bound(tmp_path_factory, identity) -> Iterator[Target]:
    """The bare asyncio server, over TCP and a Unix socket."""
    started = server(BOUND).start(PEERS, tmp_path_factory.mktemp("bound") / "1", identity)
    yield started.target
    assert started.running is not None
    assert list(session_of(started.running.pid)) == [started.running.pid]
    assert started.running.rss_bytes > 1 << 20
    started.running.stop()


def row(server: str, client: str, *rounds: tuple[float, float], reason: str = "") -> Row:
    """Return a row of (requests a second, p50 in ms) in rounds of one second."""
    made = [Round(int(rate), 1.0, p50, 2 * p50) for rate, p50 in rounds]
    return Row("identity", server, client, 1, made, reason)


def test_the_identity_is_a_quantized_model_that_answers_what_it_was_given(tmp_path):
    path = tmp_path / "identity.tflite"
    path.write_bytes(identity_model())
    assert examine(path.read_bytes())["quantized"]  # so the daemon serves it as it is
    values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    assert np.array_equal(Runner(path.read_bytes()).run({"x": values})["y"], values)


def test_a_note_makes_another_file_of_the_same_model():
    first = identity_model((1, 1, 1, 4))
    second = with_note(first, "two")
    assert first != second == identity_model((1, 1, 1, 4), "two")
    values = np.arange(4, dtype=np.uint8).reshape(1, 1, 1, 4)
    assert np.array_equal(Runner(second).run({"x": values})["y"], values)


def test_a_workload_comes_back_from_its_file(tmp_path, identity):
    read = Workload.read(identity.write(tmp_path / "w.npz"))
    assert (read.name, read.model, read.datatype) == ("identity", identity.model, "UINT8")
    assert (read.shape, read.output_shape) == (list(SHAPE), list(SHAPE))
    assert np.array_equal(read.inputs, identity.inputs)


def test_floats_become_what_an_integer_input_takes():
    model = Model.from_bytes(identity_model((1, 1, 1, 3)))
    values = np.array([[0.0, 0.2, 2.0]], np.float32)
    assert quantized(values, model, np.dtype(np.uint8)).tolist() == [[0, 51, 255]]
    assert quantized(values, model, np.dtype(np.float32)).tolist() == values.tolist()


def test_a_quantized_model_is_measured_as_it_is(tmp_path):
    path = tmp_path / "own.tflite"
    path.write_bytes(identity_model((1, 1, 1, 3)))
    np.savez(tmp_path / "x.npz", x=np.array([[0, 51, 255], [255, 0, 0]]))
    workload = model_workload("own", path, tmp_path / "x.npz", 255.0, tmp_path)
    assert workload.inputs.reshape(2, 3).tolist() == [[0, 51, 255], [255, 0, 0]]
    assert np.array_equal(workload.outputs, workload.inputs)


def test_a_round_is_counted_over_all_threads():
    one = round_of([0.001] * 98 + [0.1] * 2, 2.0, errors=3)
    assert (one.requests, one.rate, one.errors) == (100, 50.0, 3)
    assert one.p50_ms == pytest.approx(1.0)
    assert one.p99_ms > 50
    assert np.isnan(round_of([], 1.0).p50_ms)


def test_ratios_are_taken_round_by_round():
    assert (spread([3, 1, 2]).median, spread([3, 1, 2]).high) == (2, 3)
    assert paired_ratio([10, 100, 30], [1, 10, 3]) == 10  # all rounds drift, the ratio does not
    assert paired_difference([1.0, 11.0, 3.0], [0.5, 10.5, 2.5]) == 0.5


def test_rows_are_chosen_by_words_and_take_turns(identity):
    options = Options(PEERS, 3, 1.0, (1, 4), "edgeq, httptools")
    rows = rows_of(SERVERS, identity, options)
    assert {one.server for one in rows} == {EDGEQ, "asyncio + httptools"}
    assert [one.concurrency for one in rows] == sorted(one.concurrency for one in rows)
    assert len(rows_of(SERVERS, identity, Options(PEERS, 3, 1.0, (1,)))) == sum(
        len(one.clients) for one in SERVERS
    )
    everything = Options(PEERS, 3, 1.0, (1,))
    real = rows_of(SERVERS, replace(identity, name="digits"), everything)
    assert not any("echo" in one.server for one in real)
    orders = [in_turn(rows, number) for number in range(3)]
    names = [[f"{one.client}{one.concurrency}" for one in order] for order in orders]
    assert len({tuple(order) for order in names}) == 3
    assert len({frozenset(order) for order in names}) == 1


def test_every_client_and_environment_is_known():
    for one in SERVERS:
        assert set(one.clients) <= set(KINDS)
        assert one.environment is None or one.environment in REQUIREMENTS


def test_the_table_puts_rows_beside_the_peer_the_bound_and_the_bare_interpreter():
    rows = [
        row(BARE, "in process", (50_000, 0.01), (50_000, 0.02)),
        row(BOUND, "binary, TCP", (8000, 0.1), (4000, 0.2)),
        row(EDGEQ, "binary, TCP", (4000, 0.2), (2000, 0.4)),
        row(EDGEQ, "gRPC raw", reason="the server has no gRPC port"),
        row("MLServer workers=0", "JSON, TCP", (100, 9.0), (50, 18.0)),
        row("MLServer workers=1", "gRPC raw", (400, 3.0), (200, 6.0)),
        row("MLServer echo, workers=0", "gRPC raw", (4000, 1.0), (2000, 1.0)),
    ]
    best = best_mlserver(rows)
    assert best is rows[-2]
    beside = comparisons(rows[2], rows)
    assert beside["rate_to_mlserver"] == pytest.approx(10)
    assert beside["p50_to_bound"] == pytest.approx(2)
    assert beside["p50_minus_bare_ms"] == pytest.approx(0.285)
    lines = table_of(rows).splitlines()
    assert "MLServer's best: MLServer workers=1, gRPC raw" in lines[0]
    assert lines[5].endswith("the server has no gRPC port")
    assert json.loads(json.dumps(json_of(rows)))[2]["p50_to_bound"] == pytest.approx(2)


def test_requests_say_where_their_tensor_is():
    values = np.arange(3, dtype=np.uint8)[None]
    body = wire.binary_request("m", "x", values, "UINT8", "y", timeout=5).split(wire.END, 1)[1]
    told = json.loads(body[: body.index(b"\0")])
    assert body.endswith(b"\0\1\2")
    assert told["inputs"][0]["parameters"] == {"binary_data_size": 3}
    assert told["parameters"] == {"timeout": 5}
    body = wire.shared_request("m", "x", values, "UINT8", "y", 7, ("a", "b")).split(wire.END)[1]
    assert json.loads(body)["outputs"][0]["parameters"] == {
        "shared_memory_region": "b",
        "shared_memory_byte_size": 7,
    }
    body = wire.lit_request(values, as_base64=True).split(wire.END)[1]
    assert wire.decoded(json.loads(body)["data"], np.dtype(np.uint8)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_server_that_does_not_answer_is_a_timeout(tmp_path: Path, family: int) -> None:
    with socket.socket(family) as server:
        server.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        server.listen()
        name = server.getsockname()
        address = Path(name) if family == socket.AF_UNIX else name
        with closing(wire.Connection(address, 0.1)) as connection:
            request = wire.http_request("/", method="GET")
            with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
                connection.ask(request)


def test_a_region_is_shared_memory_that_goes_away():
    region = Region(4)
    path = Path("/dev/shm") / region.name
    region.write(b"abcd")
    assert path.read_bytes() == region.read() == b"abcd"
    assert f"/region/{region.name}/register" in region.registration().decode()
    region.close()
    assert not path.exists()


def test_targets_travel_to_the_client_s_process():
    target = Target("m", 1, None, Path("/x"))
    assert target_of(json.loads(json.dumps(target_json(target)))) == target


@pytest.mark.parametrize("kind", ["binary, TCP", "binary, Unix", "tritonclient.http"])
def test_a_client_measures_a_server_that_answers_right(bound, identity, tmp_path, kind):
    given = identity.write(tmp_path / "w.npz")
    job = {"client": kind, "target": target_json(bound), "workload": str(given),
           "seconds": 0.1, "concurrency": 2}  # fmt: skip
    found = measure(job)
    assert isinstance(found, Round), found
    assert found.requests > 10
    assert (found.errors, found.p50_ms > 0) == (0, True)


def test_what_answers_wrong_or_not_at_all_is_not_timed(bound, identity, tmp_path):
    client = open_client("binary, TCP", bound, identity)
    lied = Workload("identity", identity.model, "x", "y", identity.inputs, identity.outputs[::-1])
    assert verify(client, lied) == "the answer to input 0 is not LiteRT's"
    client.close()
    given = str(identity.write(tmp_path / "w.npz"))
    job = {"target": target_json(bound), "workload": given, "seconds": 0.1, "concurrency": 1}
    assert measure({**job, "client": "gRPC raw"}) == "ClientError: the server has no gRPC port"


def test_rounds_run_each_row_in_a_process_of_its_own(bound, identity, tmp_path):
    options = Options(PEERS, 2, 0.1, (1,), "bare,edgeq grpc")
    rows = rows_of(SERVERS, identity, options)
    started: dict[str, Started] = {}
    start_servers((server(BARE),), rows, identity, options, tmp_path, started)
    own = [one for one in rows if one.server == BARE]
    run_rounds(own, started, identity, options, tmp_path)
    assert [len(one.rounds) for one in own] == [2]
    assert own[0].is_measured


def test_a_peer_that_cannot_be_installed_gives_its_rows_the_reason(monkeypatch, identity, tmp_path):
    def refuse(command: list[str]) -> None:
        raise environments.MissingEnvironment("no such version")

    monkeypatch.setattr(environments, "_run", refuse)
    options = Options(tmp_path, 1, 0.1, (1,), "mlserver")
    rows = rows_of(SERVERS, identity, options)
    started: dict[str, Started] = {}
    start_servers(SERVERS, rows, identity, options, tmp_path, started)
    assert not started
    assert {one.reason for one in rows} == {"not installed: no such version"}
    assert "not installed: no such version" in table_of(rows)


def test_a_server_that_ends_says_its_last_words(tmp_path):
    running = start([sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path, "s")
    with pytest.raises(ServerError, match="it ended: no such model"):
        wait_until_ready(running, free_ports(1)[0], "/")
    running.stop()


def test_perf_analyzer_s_report_is_read_or_its_failure_told(tmp_path):
    path = tmp_path / "report.csv"
    head = "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p99 latency"
    path.write_text(f"{head}\n4,1234.5,3,500,600,900\n")
    sweep = read_report(path, "http")
    assert not isinstance(sweep, str)
    assert (sweep.concurrency, sweep.rate, sweep.p50_ms, sweep.p99_ms) == (4, 1234.5, 0.5, 0.9)
    path.write_text(head)
    assert read_report(path, "http") == "its report is empty"
    told = run_perf_analyzer(Path("/nowhere"), Target("m", 1), "http", 1, 1.0, tmp_path)
    assert "No such file" in str(told)
    assert "4 at a time: 1234 req/s" in sweep_lines([sweep, told])


def test_options_have_defaults_and_the_daemon_its_own():
    options = make_parser("").parse_args(["--concurrency", "1,8"])
    assert (options.concurrency, options.rounds) == ((1, 8), 3)
    assert "capture" not in CONFIG  # what it costs in the field, it costs here
