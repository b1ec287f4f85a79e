"""A real daemon over gRPC: NVIDIA's client, from a model in the request to the end."""

from __future__ import annotations

import queue
import socket
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from edgeq.tflite.runtime import Runner
from tests.e2e.daemon import Daemon


def image_input(values: np.ndarray) -> triton.InferInput:
    given = triton.InferInput("image", list(values.shape), "FP32")
    given.set_data_from_numpy(values)
    return given


def stream(client: triton.InferenceServerClient, images: np.ndarray) -> list[np.ndarray]:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for image in images:
        client.async_stream_infer("digits", [image_input(image[None])])
    found = [answers.get(timeout=20) for _ in images]
    client.stop_stream()
    assert [error for _, error in found] == [None] * len(images)
    return [result.as_numpy("scores") for result, _ in found]


def test_a_model_comes_serves_and_goes_over_grpc(
    daemon: Daemon, digits: Path, images: np.ndarray
) -> None:
    daemon.start()
    model = (digits / "digits.tflite").read_bytes()
    reference = Runner(model)
    expected = [reference.run({"image": image[None]})["scores"] for image in images[:20]]
    with triton.InferenceServerClient(f"127.0.0.1:{daemon.grpc_port}") as client:
        assert client.is_server_ready()
        assert not client.is_model_ready("digits")
        client.load_model("digits", config="{}", files={"file:1/model.tflite": model})
        assert client.is_model_ready("digits")
        assert client.get_model_metadata("digits").inputs[0].shape == [1, 16, 16, 1]
        result = client.infer("digits", [image_input(images[:1])])
        version = result.get_response().model_version
        np.testing.assert_allclose(result.as_numpy("scores"), expected[0], atol=1e-5)
        for answer, right in zip(stream(client, images[:20]), expected, strict=True):
            np.testing.assert_allclose(answer, right, atol=1e-5)
        stats = client.get_inference_statistics("digits", version).model_stats[0]
        assert stats.inference_stats.success.count == 21
        assert client.get_model_repository_index().models[0].state == "READY"
        with pytest.raises(InferenceServerException, match="input 'image' has shape"):
            client.infer("digits", [image_input(images[:1, :8])])
        client.unload_model("digits")
        with pytest.raises(InferenceServerException) as gone:
            client.infer("digits", [image_input(images[:1])])
        assert gone.value.status() == "StatusCode.UNAVAILABLE"
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics_port}/metrics") as page:
        counts = [line for line in page.read().decode().splitlines() if 'protocol="grpc"' in line]
    assert any('code="OK"' in line and line.endswith(" 21.0") for line in counts), counts
    assert any('code="INVALID_ARGUMENT"' in line for line in counts), counts
    assert daemon.stop() == 0


def set_port(daemon: Daemon, port: str) -> None:
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("grpc_port: 0", f"grpc_port: {port}"))


def test_a_daemon_without_grpc_does_not_load_it(daemon: Daemon) -> None:
    set_port(daemon, "null")
    daemon.start()
    assert daemon.grpc_port == 0
    assert daemon.process is not None
    assert "cygrpc" not in Path(f"/proc/{daemon.process.pid}/maps").read_text()
    assert daemon.stop() == 0


def test_a_taken_port_keeps_the_daemon_from_starting_and_is_named(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        set_port(daemon, str(port))
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: Address"):
            daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(20) == 1
