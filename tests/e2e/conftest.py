from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon


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
def images(digits: Path) -> np.ndarray:
    """Images of digits as the model takes them, [N, 16, 16, 1]."""
    return np.load(digits / "digits_samples.npz")["x"].astype(np.float32)
