"""An application on the same box: frames through shared memory, requests over the Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import uuid
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.tflite.runtime import Runner
from tests.e2e.daemon import Daemon, infer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tritonclient.*")

IMAGE_BYTES, SCORE_BYTES = 16 * 16 * 4, 10 * 4


class Application(http.client.HTTPConnection):
    """One keep-alive connection to the daemon's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("edgeq", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))

    def call(self, path: str, content: Any) -> tuple[int, Any]:
        self.request("POST", path, json.dumps(content))
        response = self.getresponse()
        return response.status, json.loads(response.read())

    def infer(self) -> tuple[int, Any]:
        """The frame at the region's start, the scores right behind it."""
        frame = {"shared_memory_region": "frames", "shared_memory_byte_size": IMAGE_BYTES}
        scores = {
            "shared_memory_region": "frames",
            "shared_memory_byte_size": SCORE_BYTES,
            "shared_memory_offset": IMAGE_BYTES,
        }
        image = {"name": "image", "datatype": "FP32", "shape": [1, 16, 16, 1], "parameters": frame}
        wanted = {"name": "scores", "parameters": scores}
        return self.call("/v2/models/digits/infer", {"inputs": [image], "outputs": [wanted]})


@pytest.fixture
def segment() -> Iterator[SharedMemory]:
    made = SharedMemory(f"edgeq-test-{uuid.uuid4().hex}", create=True, size=8192)
    yield made
    made.close()
    made.unlink()


def test_frames_and_scores_pass_through_shared_memory_and_truncation_harms_nobody(
    daemon: Daemon, digits: Path, images: np.ndarray, segment: SharedMemory
) -> None:
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    reference = Runner((digits / "digits.tflite").read_bytes())
    application = Application(daemon.root / "state/edgeq.sock")
    registration = {"key": segment.name, "offset": 4096, "byte_size": 2048}
    register = "/v2/systemsharedmemory/region/frames/register"
    assert application.call(register, registration) == (200, {})
    for image in images[:20]:
        segment.buf[4096 : 4096 + IMAGE_BYTES] = image.tobytes()
        status, told = application.infer()
        assert (status, told["outputs"][0]["shape"]) == (200, [1, 10])
        found = bytes(segment.buf[4096 + IMAGE_BYTES : 4096 + IMAGE_BYTES + SCORE_BYTES])
        expected = reference.run({"image": image[None]})["scores"]
        np.testing.assert_allclose(np.frombuffer(found, np.float32), expected[0], atol=1e-6)
    daemon.wait("samples of shared memory", lambda s: s["models"]["digits"]["samples"]["bytes"] > 0)
    os.truncate(f"/dev/shm/{segment.name}", 4096)
    status, told = application.infer()
    assert (status, told["error"][:36]) == (400, "shared memory region 'frames' was tr")
    _, scores = infer(daemon.triton(), "digits", "image", images[:1], "scores")
    assert scores.shape == (1, 10)
    application.close()
    assert daemon.stop() == 0
    assert Path("/dev/shm", segment.name).exists()
