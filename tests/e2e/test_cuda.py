"""The whole daemon on a GPU that computes on the CPU: drop, build, check, swap, serve, stop."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgeq.tflite.runtime import Runner
from tests.e2e.daemon import Daemon, infer
from tests.engines.cuda.conftest import fake_gpu as fake_gpu
from tests.engines.cuda.fake_libcuda.fake import FakeGpu

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tritonclient.*")

ILLEGAL_ADDRESS = 700
SETTINGS = {"EDGEQ_BUILD_BACKEND": "cuda", "EDGEQ_BUILD_TUNE": "false"}


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of compiled kernels, from one daemon to the next."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def start(daemon: Daemon, fake_gpu: FakeGpu, kernels: Path):
    """Starts the daemon on a machine with an Orin."""

    def started(**settings: str) -> None:
        environment = fake_gpu.environment(sm=87, integrated=1)
        daemon.start({**environment, **SETTINGS, **settings, "CACHE_DIRECTORY": str(kernels)})

    return started


def _serve_on_the_gpu(daemon: Daemon, digits: Path) -> None:
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    daemon.wait_served("digits", "cuda-int8")


def _hold_to_the_cpu(daemon: Daemon, images: np.ndarray, version: str = "2") -> None:
    """Compare answers with those of the bundle's INT8 model on the CPU, byte for byte."""
    int8 = (daemon.root / f"state/bundles/digits/{version}/int8.tflite").read_bytes()
    reference, client = Runner(int8), daemon.triton()
    for image in images[:20]:
        answered, scores = infer(client, "digits", "image", image[None], "scores")
        assert answered == version
        assert scores.tobytes() == reference.run({"image": image[None]})["scores"].tobytes()


def test_a_drop_is_built_for_the_gpu_checked_swapped_and_served(
    daemon: Daemon, digits: Path, images: np.ndarray, start, fake_gpu: FakeGpu
) -> None:
    start()
    _serve_on_the_gpu(daemon, digits)
    _hold_to_the_cpu(daemon, images)
    daemon.drop(digits / "digits_v2.tflite", "digits")
    model = daemon.wait_served("digits", not_version="2")
    assert model["live"]["engine"] == "cuda-int8"
    daemon.client.call("rollback", name="digits")
    _hold_to_the_cpu(daemon, images)
    assert daemon.stop() == 0
    assert fake_gpu.control.alive() == {}


def test_the_gpu_s_version_serves_again_after_a_start(
    daemon: Daemon, digits: Path, images: np.ndarray, start
) -> None:
    start()
    _serve_on_the_gpu(daemon, digits)
    assert daemon.stop() == 0
    start()
    assert daemon.wait_served("digits")["live"]["engine"] == "cuda-int8"
    _hold_to_the_cpu(daemon, images)
    assert daemon.stop() == 0


def test_fifty_swaps_leak_nothing(
    daemon: Daemon, digits: Path, images: np.ndarray, start, fake_gpu: FakeGpu
) -> None:
    start()
    _serve_on_the_gpu(daemon, digits)
    assert daemon.process is not None
    threads = Path(f"/proc/{daemon.process.pid}/task")
    stop = threading.Event()
    failed: list[Exception] = []

    def ask() -> None:
        client = daemon.triton()
        try:
            while not stop.is_set():
                infer(client, "digits", "image", images[:1], "scores")
        except Exception as error:  # noqa: BLE001 - told by the test's thread
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    alive, counted = [], []
    for _ in range(25):
        for wanted in ("1", "2"):
            daemon.client.call("rollback", name="digits", to=wanted)
        held = fake_gpu.control.alive()
        held.pop("pushed_contexts", None)  # by requests that are being answered just now
        alive.append(held)
        counted.append(len(list(threads.iterdir())))
    stop.set()
    asking.join()
    assert failed == []
    assert alive[-1] == alive[1]
    assert counted[-1] - counted[4] < 10  # one for each swap were 40; a pool may have grown
    _hold_to_the_cpu(daemon, images)
    assert daemon.stop() == 0
    assert fake_gpu.control.alive() == {}


def test_a_kernel_s_illegal_address_is_survived(
    daemon: Daemon, digits: Path, images: np.ndarray, start, fake_gpu: FakeGpu
) -> None:
    start()
    _serve_on_the_gpu(daemon, digits)
    fake_gpu.control.plan(f"kernel:5:{ILLEGAL_ADDRESS}")
    _hold_to_the_cpu(daemon, images)
    daemon.wait_served("digits", "cuda-int8")
    fake_gpu.control.plan(f"kernel:5:{ILLEGAL_ADDRESS}")
    _hold_to_the_cpu(daemon, images)
    model = daemon.wait_served("digits", "cpu-int8")
    assert "illegal memory access" in model["live"]["fault"]
    events = [e["message"] for e in daemon.status()["events"] if e["kind"] == "engine"]
    assert len(events) >= 3  # to the CPU, back, and to the CPU for good
    assert daemon.stop() == 0
