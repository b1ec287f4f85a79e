"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from edgeq.engines.table import load_float
from edgeq.samples.store import Sample, sample_id
from edgeq.systemd import FdStore, Notifier
from tests import browser as chromium
from tests import tiny
from tests.run_folder import close_run_folder, open_run_folder
from tests.service_manager import ServiceManager

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Let no property fail because the machine is busy; open the folder of the run."""
    slow = [HealthCheck.too_slow]
    settings.register_profile("patient", deadline=None, suppress_health_check=slow)
    settings.load_profile("patient")
    if not _is_worker(config):
        open_run_folder()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the folder of the run."""
    if not _is_worker(config):
        close_run_folder()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse a name that is another in each process: the workers must agree on the tests."""
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(f"{item.nodeid}: give the parameter an id without an address")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and labelled data beside the checkout."""
    if not (SHARED / "data" / "MANIFEST.md").is_file():
        pytest.skip("needs the folder ../shared with real models and data; it is not here")
    return SHARED


@pytest.fixture(scope="session")
def digits() -> Path:
    """The folder of digits.tflite, digits_v2.tflite and digits_samples.npz (x, y)."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def digits_model(digits: Path) -> bytes:
    """A small trained model: 'image' [1, 16, 16, 1], pixels 0 to 255 -> scores of ten digits."""
    return (digits / "digits.tflite").read_bytes()


@pytest.fixture(scope="session")
def digits_samples(digits: Path, digits_model: bytes) -> list[Sample]:
    """64 images of digits as `digits_model` takes them."""
    name = load_float(digits_model).inputs[0].name
    with np.load(digits / "digits_samples.npz") as arrays:
        inputs = [{name: x[np.newaxis].astype(np.float32)} for x in arrays["x"][:64]]
    return [Sample(sample_id(given), given) for given in inputs]


@pytest.fixture(scope="session")
def prometheus_tools() -> Path:
    """The folder of Debian's promtool and prometheus."""
    fetched = subprocess.run(
        [ROOT / "tools" / "fetch_prometheus"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"promtool cannot be had: {fetched.stderr.strip()[-200:]}")
    return Path(fetched.stdout.strip())


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """Debian's Chromium, or another of its family, without a window."""
    path = chromium.find_browser()
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.running(path, tmp_path_factory.mktemp("browser")) as made:
        if problem := made.problem():
            pytest.skip(f"{path} does not start: {problem}")
        yield made


@pytest.fixture(scope="session")
def tiny_model_bytes() -> bytes:
    """conv -> relu -> depthwise -> pool -> fc -> softmax: 'image' [1,8,8,3] -> 'scores' [1,4]."""
    return tiny.tiny_model().to_bytes()


@pytest.fixture(scope="session")
def one_op_model_bytes() -> bytes:
    """One RELU: 'x' [1, 4] -> 'y' [1, 4]."""
    return tiny.one_op_model().to_bytes()


@pytest.fixture
def tiny_inputs() -> dict[str, tiny.Array]:
    """One input of the tiny model."""
    return tiny.tiny_inputs()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """A service manager that keeps what it is sent."""
    made = ServiceManager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def store(manager: ServiceManager) -> FdStore:
    """Its store of sockets."""
    return FdStore(Notifier(manager.address))
