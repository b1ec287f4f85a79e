"""What the GPU is, by the driver, and why it cannot be asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeq.engines.cuda.gpu.device import DeviceFacts, facts, pycuda_driver
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.fake_libcuda.fake import FakeGpu

FACTS = """
from edgeq.engines.cuda.gpu.device import facts
from edgeq.errors import EngineError
try:
    print(facts())
except EngineError as error:
    print(type(error).__name__, error.message, error.hint, sep=" | ")
"""


def test_the_facts_are_the_driver_s(fake_gpu: FakeGpu):
    said = fake_gpu.output(
        FACTS, sm=72, integrated=1, multiprocessors=6, memory=8 << 30, driver=12060, name="Xavier"
    )
    expected = DeviceFacts("Xavier", Target(72, 6), 6, 8 << 30, is_integrated=True, driver=(12, 6))
    assert said == repr(expected)
    assert fake_gpu.control.alive() == {}  # asking needs no context


def test_a_box_without_a_gpu_says_so_with_the_driver_s_words(fake_gpu: FakeGpu):
    said = fake_gpu.output(FACTS, devices=0).split(" | ")
    assert said[0] == "DeviceError"
    assert "no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE, 100)" in said[1]
    assert "CUDA_VISIBLE_DEVICES" in said[2]


def test_a_gpu_that_kernels_cannot_be_made_for_is_named(fake_gpu: FakeGpu):
    said = fake_gpu.output(FACTS, sm=37)
    assert said.startswith("EngineError | target 'sm_37' is unknown")


@pytest.mark.parametrize(
    ("sm", "integrated", "expected"),
    [(53, True, False), (62, True, False), (72, True, True), (87, True, True), (87, False, False)],
)
def test_kernels_work_on_the_host_s_memory_where_its_caches_follow(sm, integrated, expected):
    facts = DeviceFacts("board", Target(sm), 8, 1 << 30, integrated, (12, 6))
    assert facts.has_zero_copy is expected


@pytest.fixture
def pycuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a pycuda.driver that the test writes."""
    pycuda_driver.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "pycuda" / "driver.py"


@pytest.mark.parametrize(
    ("failure", "message", "hint"),
    [
        ("import pycuda._driver", "pycuda is not installed", "pip install"),
        (
            "raise ImportError('libcuda.so.1: cannot open shared object file')",
            "pycuda does not load: libcuda.so.1",
            "Install the GPU's driver",
        ),
        (
            "raise ImportError('_driver.so: undefined symbol: cuCtxCreate_v4')",
            "undefined symbol: cuCtxCreate_v4",
            "Build pycuda again with the CUDA headers",
        ),
    ],
)
def test_a_pycuda_that_cannot_be_used_says_why(pycuda, failure, message, hint):
    pycuda.write_text(failure)
    for ask in (pycuda_driver, facts):
        with pytest.raises(EngineError) as caught:
            ask()
        assert message in caught.value.message
        assert hint in caught.value.hint
