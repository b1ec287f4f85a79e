"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and labelled data beside the checkout."""
    if not (SHARED / "data" / "MANIFEST.md").is_file():
        pytest.skip("needs the folder ../shared with real models and data; it is not here")
    return SHARED


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
