"""A machine with a GPU that computes on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from tests.engines.cuda.fake_libcuda.fake import Control, FakeGpu, fake_cuda
from tests.quantize.minmax import minmax_table


@pytest.fixture
def fake_gpu(tmp_path: Path) -> Iterator[FakeGpu]:
    """Children with the real pycuda, on a libcuda and a libnvrtc of our own."""
    libraries = fake_cuda()
    control = Control(tmp_path / "control")
    yield FakeGpu(libraries, control)
    control.close()


@pytest.fixture(scope="session")
def gpu_models(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A folder with digits in INT8, whole and with a float op in the middle, and some inputs.

    Cubins of what was compiled for them are kept there, too, from one child to the next.
    """
    folder = tmp_path_factory.mktemp("gpu_models")
    model = Model.from_bytes((digits / "digits.tflite").read_bytes())
    name = model.names()[model.inputs[0]]
    with np.load(digits / "digits_samples.npz") as samples:
        images = samples["x"][:4].astype(np.float32)
    table = minmax_table(model, [{name: image[np.newaxis]} for image in images])
    for file, float_ops in (("whole", frozenset[int]()), ("parted", frozenset({4}))):
        content = quantize(model, table, float_ops=float_ops).model.to_bytes()
        (folder / f"{file}.tflite").write_bytes(content)
    np.savez(folder / "inputs.npz", **{name: images})
    return folder
