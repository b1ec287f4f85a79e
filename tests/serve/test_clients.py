"""The clients that people use, unchanged, against a real server."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, while they are imported
    triton = pytest.importorskip("tritonclient.http")

ARRAY = np.array([[1, 2.5, -3, 4]], np.float32)


def triton_input(array: np.ndarray = ARRAY, *, binary: bool = True, name: str = "x") -> Any:
    datatype = {"f": "FP32", "u": "UINT8", "i": "INT32"}[array.dtype.kind]
    made = triton.InferInput(name, array.shape, datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


@pytest.fixture
def client(running: Any) -> Iterator[Any]:
    made = triton.InferenceServerClient(running.address)
    yield made
    made.close()


def test_tritonclient_reads_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("echo", "3")
    assert not client.is_model_ready("cold")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "edgeq"
    assert client.get_model_metadata("echo", "3")["inputs"][0]["datatype"] == "FP32"
    assert client.get_model_config("echo")["max_batch_size"] == 0


def test_tritonclient_manages_the_repository(client: Any, running: Any) -> None:
    assert client.get_model_repository_index()[0]["name"] == "echo"
    client.load_model("echo")
    client.unload_model("echo")
    assert running.plane.calls == [("load", "echo"), ("unload", "echo")]
    client.load_model("echo", config="{}", files={"file:1/model.tflite": b"abc"})
    assert running.plane.loads[-1] == ("{}", {"1/model.tflite": b"abc"})


def test_tritonclient_reads_statistics(client: Any) -> None:
    client.infer("echo", [triton_input()])
    assert len(client.get_inference_statistics()["model_stats"]) == 6
    assert len(client.get_inference_statistics("echo")["model_stats"]) == 2
    rows = client.get_inference_statistics("echo", "3")["model_stats"]
    assert rows[0]["inference_count"] == 1


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritonclient_infers_in_every_form(
    client: Any, binary_in: bool, binary_out: bool | None
) -> None:
    outputs = (
        None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    )
    result = client.infer(
        "echo", [triton_input(binary=binary_in)], outputs=outputs, request_id="abc"
    )
    np.testing.assert_array_equal(result.as_numpy("y"), ARRAY)
    assert result.get_response()["id"] == "abc"
    assert result.get_response()["model_version"] == "3"


def test_tritonclient_sends_two_inputs_in_two_forms(client: Any) -> None:
    pairs = np.arange(6, dtype=np.float32).reshape(3, 2)
    b = np.array([7, -8], np.int32)
    inputs = [triton_input(pairs, name="a"), triton_input(b, name="b", binary=False)]
    result = client.infer("pair", inputs)
    np.testing.assert_array_equal(result.as_numpy("a"), pairs)
    np.testing.assert_array_equal(result.as_numpy("b"), b)


@pytest.mark.parametrize("request_algorithm", ["gzip", "deflate", None])
@pytest.mark.parametrize("response_algorithm", ["gzip", "deflate", None])
def test_tritonclient_compresses_both_ways(
    client: Any, request_algorithm: str | None, response_algorithm: str | None
) -> None:
    result = client.infer(
        "echo",
        [triton_input()],
        request_compression_algorithm=request_algorithm,
        response_compression_algorithm=response_algorithm,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), ARRAY)


def test_tritonclient_sends_schedule_and_sequence_parameters(client: Any, running: Any) -> None:
    client.infer(
        "echo",
        [triton_input()],
        model_version="3",
        sequence_id=7,
        sequence_start=True,
        priority=1,
        timeout=900_000,
        parameters={"anything": "else"},
    )
    assert running.plane.submitted == [("echo", "3", 0.9)]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_classes(client: Any, binary: bool) -> None:
    output = triton.InferRequestedOutput("y", binary_data=binary, class_count=2)
    classes = client.infer("echo", [triton_input()], outputs=[output]).as_numpy("y")
    assert classes.shape == (1, 2)
    texts = [c.decode() if isinstance(c, bytes) else c for c in classes[0]]
    assert texts == ["4.000000:3", "2.500000:1"]


def test_tritonclient_infers_asynchronously_and_raw(client: Any, running: Any) -> None:
    pending = [client.async_infer("echo", [triton_input()]) for _ in range(5)]
    for request in pending:
        np.testing.assert_array_equal(request.get_result().as_numpy("y"), ARRAY)
    body, length = triton.InferenceServerClient.generate_request_body([triton_input()])
    answer = running.request(
        "POST", "/v2/models/echo/infer", body, {"Inference-Header-Content-Length": str(length)}
    )
    header_length = answer.headers["Inference-Header-Content-Length"]
    result = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(header_length)
    )
    np.testing.assert_array_equal(result.as_numpy("y"), ARRAY)


def test_tritonclient_shows_the_servers_error(client: Any) -> None:
    wrong = triton_input(np.zeros((1, 5), np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"has shape \[1, 5\]; the model"):
        client.infer("echo", [wrong])
    with pytest.raises(triton.InferenceServerException, match="model 'nobody' is unknown"):
        client.infer("nobody", [triton_input()])
    with pytest.raises(triton.InferenceServerException, match="no engine yet") as caught:
        client.infer("cold", [triton_input()])
    assert caught.value.status() == "503"


def test_tritonclient_finds_no_shared_memory_where_there_is_none(client: Any) -> None:
    assert client.get_system_shared_memory_status() == []
    with pytest.raises(triton.InferenceServerException, match="No such file"):
        client.register_system_shared_memory("r", "/edgeq-no-such-segment", 12)
    client.unregister_system_shared_memory()


@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="kserve is not installed")
@pytest.mark.parametrize("how", ["binary", "json"])
def test_kserve_infers_and_asks_for_health(running: Any, how: str) -> None:
    script = Path(__file__).with_name("kserve_client.py")
    command = [sys.executable, str(script), running.address, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout.splitlines()[-1])
    assert got == {"model": "echo", "id": "abc", "values": ARRAY.tolist()}
