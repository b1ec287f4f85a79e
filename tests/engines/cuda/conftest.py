"""A machine with a GPU that computes on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.cuda.fake_libcuda.fake import Control, FakeGpu, fake_cuda


@pytest.fixture
def fake_gpu(tmp_path: Path) -> Iterator[FakeGpu]:
    """Children with the real pycuda, on a libcuda and a libnvrtc of our own."""
    libraries = fake_cuda()
    control = Control(tmp_path / "control")
    yield FakeGpu(libraries, control)
    control.close()
