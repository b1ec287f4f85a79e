"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and labelled data beside the checkout."""
    if not (SHARED / "data" / "MANIFEST.md").is_file():
        pytest.skip("needs the folder ../shared with real models and data; it is not here")
    return SHARED
