"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


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
