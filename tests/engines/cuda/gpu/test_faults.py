"""Every error of the driver becomes one of ours: its name, a hint, whether the context is lost."""

from __future__ import annotations

import re

import pytest

from edgeq.engines.cuda.gpu.faults import (
    FAULTS,
    OUT_OF_MEMORY,
    UNUSABLE_IMAGE,
    code_of,
    device_error,
)
from edgeq.errors import DeviceError, EngineError

# Of cuda.h: "This leaves the process in an inconsistent state and any further CUDA work will
# return the same error."
INCONSISTENT = {700, 702, 710, 714, 715, 716, 717, 718, 719, 721}
# The words of driver 580 for some codes, as cuGetErrorString gives them.
TEXTS = {
    "out of memory": 2,
    "no CUDA-capable device is detected": 100,
    "an illegal memory access was encountered": 700,
    "unspecified launch failure": 719,
}


def test_an_error_says_the_call_the_driver_s_words_the_name_and_the_code():
    error = device_error(2, "cuMemAlloc", "out of memory")
    assert error.message == "cuMemAlloc failed: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)"
    assert (error.code, error.is_sticky) == (OUT_OF_MEMORY, False)
    assert isinstance(error, EngineError)


def test_an_unknown_code_keeps_its_number_and_has_a_hint():
    error = device_error(4711, "cuLaunchKernel")
    assert error.message == "cuLaunchKernel failed (CUDA error, 4711)"
    assert error.hint


@pytest.mark.parametrize("code", sorted(INCONSISTENT))
def test_what_leaves_the_process_inconsistent_is_sticky(code):
    assert device_error(code, "cuStreamSynchronize").is_sticky


def test_what_a_load_is_refused_with_is_not_sticky():
    for code in {1, 2, 100, 701, 800, 803, *UNUSABLE_IMAGE}:
        assert not FAULTS[code].is_sticky


def test_hints_are_sentences_and_names_the_driver_s():
    for fault in FAULTS.values():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", fault.name)
        assert fault.hint == "" or re.fullmatch(r"[A-Z`].*\.", fault.hint), fault


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("cuMemAlloc failed: out of memory", "MemoryError", 2),
        ("cuInit failed: no CUDA-capable device is detected", "RuntimeError", 100),
        ("cuStreamSynchronize failed: an illegal memory access was encountered", "LogicError", 700),
        ("cuStreamSynchronize failed: unspecified launch failure", "LaunchError", 719),
        ("cuModuleLoadDataEx failed: out of memory - ptxas log", "MemoryError", 2),
        ("cuModuleLoadDataEx failed: out of memory -", "MemoryError", 2),
        ("cuMemAlloc failed: kein Speicher", "MemoryError", 2),  # words of another driver
        ("cuLaunchKernel failed: words of another driver", "LaunchError", 719),
        ("cuCtxSynchronize failed: words of another driver", "Error", 999),
        ("cuCtxSynchronize failed: words of another driver", "LogicError", 0),
        ("no words of the driver at all", "LogicError", 0),
    ],
)
def test_the_code_behind_a_pycuda_error_is_found_by_its_words_then_by_its_class(
    message, kind, code
):
    assert code_of(message, kind, TEXTS) == code


def test_a_device_error_can_be_raised_with_a_message_alone():
    error = DeviceError("lost")
    assert (error.code, error.is_sticky, error.hint) == (0, False, "")
