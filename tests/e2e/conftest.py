from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon
from tests.run_folder import made_once


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is not started yet."""
    made = Daemon(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def int8_root(digits: Path) -> Path:
    """The folder of a daemon that took a drop, samples, and serves INT8 since; it is stopped."""

    def deploy(root: Path) -> None:
        daemon = Daemon(root)
        try:
            daemon.start()
            daemon.drop(digits / "digits.tflite", "digits")
            daemon.wait_served("digits", "float")
            daemon.client.add_samples("digits", digits / "digits_samples.npz")
            daemon.wait("proven", lambda s: s["models"]["digits"]["state"] == "serving"
                        and s["models"]["digits"]["live"]["engine"] == "cpu-int8")  # fmt: skip
        finally:
            daemon.close()

    return made_once("int8_root", deploy)


@pytest.fixture
def serving(daemon: Daemon, int8_root: Path) -> Daemon:
    """A daemon that serves digits as INT8: version 2, after the float version 1."""
    for name in ("models", "state"):
        shutil.copytree(int8_root / name, daemon.root / name, dirs_exist_ok=True)
    daemon.start()
    return daemon


@pytest.fixture(scope="session")
def images(digits: Path) -> np.ndarray:
    """Images of digits as the model takes them, [N, 16, 16, 1]."""
    return np.load(digits / "digits_samples.npz")["x"].astype(np.float32)
