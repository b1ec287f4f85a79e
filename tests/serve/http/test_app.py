"""Every route and every error, over a real TCP connection with nothing but the standard library."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edgeq.errors import EngineError
from edgeq.serve.rights import Rights

INFER = "/v2/models/echo/infer"
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2.5, 3, 4]}
REQUEST = {"id": "q", "inputs": [X]}
ARRAY = np.array([[1, 2.5, 3, 4]], np.float32)


def binary(array: np.ndarray = ARRAY, **extra: Any) -> tuple[bytes, dict[str, str]]:
    entry = {**X, "parameters": {"binary_data_size": array.nbytes}}
    del entry["data"]
    head = json.dumps({"inputs": [entry], **extra}).encode()
    return head + array.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


# -- health, metadata -------------------------------------------------------------------------


def test_health_is_told_in_the_form_that_every_client_reads(running: Any) -> None:
    assert running.request("GET", "/v2/health/live").json() == {"live": True}
    assert running.request("GET", "/v2/health/ready").json() == {"ready": True}
    ready = running.request("GET", "/v2/models/echo/versions/3/ready")
    assert ready.json() == {"name": "echo", "ready": True}


def test_what_is_not_ready_answers_503(running: Any) -> None:
    running.plane.is_up = False
    answer = running.request("GET", "/v2/health/ready")
    assert (answer.status, answer.json()) == (503, {"ready": False})
    answer = running.request("GET", "/v2/models/cold/ready")
    assert (answer.status, answer.json()) == (503, {"name": "cold", "ready": False})
    assert running.request("GET", "/v2/health/live").status == 200


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_names_its_extensions(running: Any, path: str) -> None:
    answer = running.request("GET", path).json()
    assert answer["name"] == "edgeq"
    assert "binary_tensor_data" in answer["extensions"]


def test_metadata_describes_the_tensors(running: Any) -> None:
    answer = running.request("GET", "/v2/models/pair").json()
    assert answer["versions"] == ["3", "2"]
    assert answer["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT32", "shape": [2]},
    ]


def test_the_configuration_is_in_tritons_words(running: Any) -> None:
    answer = running.request("GET", "/v2/models/echo/config").json()
    assert answer["max_batch_size"] == 0
    assert answer["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 4]}]


# -- infer ------------------------------------------------------------------------------------


def test_json_in_json_out(running: Any) -> None:
    answer = running.request("POST", INFER, REQUEST)
    assert answer.json() == {
        "id": "q",
        "model_name": "echo",
        "model_version": "3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, 3, 4]}],
    }
    assert answer.headers["X-Edgeq-Model-Version"] == "3"
    assert answer.headers["X-Edgeq-Engine"] == "cpu-int8"


def test_binary_in_binary_out(running: Any) -> None:
    body, headers = binary(parameters={"binary_data_output": True})
    answer = running.request("POST", "/v2/models/echo/versions/3/infer", body, headers)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["Inference-Header-Content-Length"])
    described = json.loads(answer.body[:length])["outputs"][0]
    assert described["parameters"] == {"binary_data_size": 16}
    assert answer.body[length:] == ARRAY.tobytes()


def test_raw_binary_in_binary_out(running: Any) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    answer = running.request("POST", INFER, ARRAY.tobytes(), headers)
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.body[length:] == ARRAY.tobytes()


def test_a_chunked_body_is_read(running: Any) -> None:
    connection = running.connection()
    content = json.dumps(REQUEST).encode()
    connection.request("POST", INFER, iter([content[:10], content[10:]]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_slow_body_is_put_together(running: Any) -> None:
    content = json.dumps(REQUEST).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(f"{head}Connection: close\r\n\r\n".encode())
        for start in range(0, len(content), 40):
            client.sendall(content[start : start + 40])
            time.sleep(0.01)
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_expect_continue_is_answered(running: Any) -> None:
    content = json.dumps(REQUEST).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(content)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_gzip_counts_the_uncompressed_header(running: Any) -> None:
    body, headers = binary()
    headers = {**headers, "Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    answer = running.request("POST", INFER, gzip.compress(body), headers)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body))["outputs"][0]["data"] == [1, 2.5, 3, 4]


def test_the_clients_timeout_reaches_the_queue_but_not_beyond_the_servers(running: Any) -> None:
    for timeout in (5000, 0, 10**12):
        running.request("POST", INFER, {**REQUEST, "parameters": {"timeout": timeout}})
    running.request("POST", "/v2/models/echo/versions/2/infer", REQUEST)
    timeouts = [call[2] for call in running.plane.submitted]
    assert timeouts == [0.005, 5, 5, 5]
    assert running.plane.submitted[-1][:2] == ("echo", "2")


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (INFER, b"{", 400, "the body is not JSON"),
        (INFER, {"inputs": []}, 400, "has no inputs"),
        (INFER, {"inputs": [{**X, "shape": [4]}]}, 400, "shape [4]; the model takes [1, 4]"),
        (INFER, {**REQUEST, "outputs": [{"name": "z"}]}, 400, "output 'z' is unknown"),
        ("/v2/models/nobody/infer", REQUEST, 404, "model 'nobody' is unknown"),
        ("/v2/models/echo/versions/9/infer", REQUEST, 404, "no version '9'"),
        (INFER, bytes((1 << 20) + 1), 413, "has 1048577 bytes or more; at most 1048576"),
        ("/v2/models/cold/infer", REQUEST, 503, "has no engine yet"),
    ],
)
def test_requests_that_cannot_be_answered_say_why(
    running: Any, path: str, body: Any, status: int, message: str
) -> None:
    answer = running.request("POST", path, body)
    assert answer.status == status
    assert message in answer.error


def test_unavailable_carries_retry_after(running: Any) -> None:
    answer = running.request("POST", "/v2/models/cold/infer", {"inputs": [X]})
    assert answer.headers["Retry-After"] == "7"


def test_a_gzip_bomb_is_413(running: Any) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    answer = running.request("POST", INFER, bomb, {"Content-Encoding": "gzip"})
    assert answer.status == 413


def test_a_body_without_an_announced_size_is_limited_too(running: Any) -> None:
    connection = running.connection()
    pieces = (bytes(1 << 16) for _ in range(40))
    connection.request("POST", INFER, pieces, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert "at most" in json.loads(response.read())["error"]
    connection.close()


def test_an_engine_that_fails_is_500_with_its_message(running: Any) -> None:
    def fail(_: Any) -> Any:
        raise EngineError("inference failed: device lost")

    running.plane.behave = fail
    answer = running.request("POST", INFER, REQUEST)
    assert (answer.status, answer.error) == (500, "inference failed: device lost")
    assert answer.headers["X-Edgeq-Model-Version"] == "3"


def test_a_bug_is_500_in_json_with_a_traceback_in_the_log(
    running: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running.plane.submit_error = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR):
        answer = running.request("POST", INFER, REQUEST)
    assert answer.status == 500
    assert "secret" not in answer.error
    assert "ZeroDivisionError: secret" in caplog.text


def test_an_answer_that_takes_too_long_is_504(start: Any) -> None:
    running = start(timeout_s=0.05)
    release = threading.Event()
    running.plane.behave = lambda inputs: {"y": inputs["x"]} if release.wait(10) else {}
    answer = running.request("POST", INFER, REQUEST)
    release.set()
    assert answer.status == 504
    assert "no answer within 0.05 s" in answer.error


def test_a_request_that_the_queue_drops_is_503(running: Any) -> None:
    release = threading.Event()
    running.plane.behave = lambda inputs: {"y": inputs["x"]} if release.wait(10) else {}
    with ThreadPoolExecutor(6) as clients:
        answers = [clients.submit(running.request, "POST", INFER, REQUEST) for _ in range(6)]
        while len(running.plane.submitted) < 6:
            time.sleep(0.01)
        dropper = threading.Thread(
            target=running.plane.pool.shutdown, kwargs={"cancel_futures": True}
        )
        dropper.start()
        time.sleep(0.05)
        release.set()
        dropper.join()
        statuses = sorted(answer.result().status for answer in answers)
    assert statuses == [200, 200, 200, 200, 503, 503]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/favicon.ico", 404),
        ("POST", "/edgeq", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2/models/echo", 405),
        ("PUT", "/", 405),
    ],
)
def test_unknown_routes_and_methods_are_json(
    running: Any, method: str, path: str, status: int
) -> None:
    answer = running.request(method, path)
    assert answer.status == status
    assert f"{method} {path}" in answer.error
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize(
    "leaf", ["", "/ready", "/config", "/stats", "/versions/9", "/versions/9/ready"]
)
def test_unknown_models_are_404_everywhere(running: Any, leaf: str) -> None:
    name = "echo" if "versions" in leaf else "nobody"
    answer = running.request("GET", f"/v2/models/{name}{leaf}")
    assert answer.status == 404
    assert name in answer.error


# -- records and statistics --------------------------------------------------------------------


def test_every_infer_request_is_recorded_once(running: Any) -> None:
    running.request("POST", INFER, REQUEST)
    running.request("POST", INFER, b"{")
    running.request("POST", "/v2/models/nobody-1234/infer", REQUEST)
    running.request("GET", "/v2")
    recorded = [(r.model, r.version, r.protocol, r.code) for r in running.records]
    assert recorded == [
        ("echo", "3", "http", "200"),
        ("echo", "3", "http", "400"),
        ("", "", "http", "404"),  # a client cannot make new label values
    ]
    assert all(0 < record.seconds < 5 for record in running.records)


def test_statistics_count_per_version(running: Any) -> None:
    for body in (REQUEST, REQUEST, b"{"):
        running.request("POST", INFER, body)
    row = running.request("GET", "/v2/models/echo/versions/3/stats").json()["model_stats"][0]
    assert (row["name"], row["version"], row["inference_count"]) == ("echo", "3", 2)
    assert row["inference_stats"]["fail"]["count"] == 1
    success = row["inference_stats"]["success"]
    assert success["ns"] >= row["inference_stats"]["compute_infer"]["ns"] > 0
    both = running.request("GET", "/v2/models/echo/stats").json()["model_stats"]
    assert [entry["version"] for entry in both] == ["3", "2"]
    every = running.request("GET", "/v2/models/stats").json()["model_stats"]
    assert {entry["name"] for entry in every} == {"echo", "image", "pair"}


# -- repository, shared memory -----------------------------------------------------------------


def test_the_index_takes_an_empty_body(running: Any) -> None:
    rows = running.request("POST", "/v2/repository/index").json()
    assert rows[0] == {"name": "echo", "version": "3", "state": "READY", "reason": ""}
    assert rows[-1] == {
        "name": "cold",
        "version": "",
        "state": "UNAVAILABLE",
        "reason": "no engine",
    }
    assert running.request("POST", "/v2/repository/index", {"ready": "yes"}).status == 400
    ready = running.request("POST", "/v2/repository/index", {"ready": True}).json()
    assert [row["name"] for row in ready] == ["echo", "image", "pair"]


def test_load_and_unload_reach_the_data_plane(running: Any) -> None:
    path = "/v2/repository/models/echo/"
    assert running.request("POST", path + "load").status == 200
    unload = {"parameters": {"unload_dependents": False}}
    assert running.request("POST", path + "unload", unload).status == 200
    assert running.plane.calls == [("load", "echo"), ("unload", "echo")]
    assert running.request("POST", "/v2/repository/models/nobody/load").status == 404


def test_a_load_may_bring_the_model(running: Any) -> None:
    body = {"parameters": {"config": "{}", "file:1/model.tflite": "YWJj"}}
    answer = running.request("POST", "/v2/repository/models/fresh/load", body)
    assert answer.status == 200
    assert running.plane.loads == [("{}", {"1/model.tflite": b"abc"})]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (3, "parameters is 3"),
        ({"config": 3}, "config is 3"),
        ({"shadow": True}, "load has parameter 'shadow'"),
        ({"file:1/model.tflite": "a"}, "'file:1/model.tflite' is not base64"),
        ({"file:1/model.tflite": "\u00bf"}, "'file:1/model.tflite' is not base64"),
        ({"file:1/model.tflite": 7}, "'file:1/model.tflite' is 7; base64 text"),
    ],
)
def test_a_malformed_load_is_refused(running: Any, parameters: Any, message: str) -> None:
    answer = running.request("POST", "/v2/repository/models/echo/load", {"parameters": parameters})
    assert answer.status == 400
    assert message in answer.error
    assert running.plane.calls == []


def test_a_configured_token_closes_load_over_tcp(start: Any) -> None:
    running = start(rights=Rights("swordfish"))
    path = "/v2/repository/models/echo/unload"
    assert running.request("POST", path).status == 401
    assert running.request("POST", path, None, {"Authorization": "Bearer swordfish"}).status == 200
    assert running.request("POST", path, unix=True).status == 200


def test_a_web_page_cannot_unload_a_model(running: Any) -> None:
    path, page = "/v2/repository/models/echo/unload", {"Origin": "http://elsewhere.example"}
    for unix in (False, True):  # a socket that ssh forwards to a port is one, too
        assert running.request("POST", path, b"", page, unix=unix).status == 403
    assert running.plane.calls == []
    assert running.request("POST", path, b"", unix=True).status == 200
