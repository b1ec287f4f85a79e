"""The calls that pycuda lacks, against a library that writes down what it was asked."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from edgeq.engines.cuda.gpu.driver import Driver
from edgeq.errors import DeviceError, EngineError

GRAPH, EXECUTABLE, STREAM, CONTEXT = 0x10, 0x20, 0x30, 0x40
TEXT = b"out of memory"

BASE = (
    "cuCtxGetCurrent",
    "cuCtxPopCurrent_v2",
    "cuCtxPushCurrent_v2",
    "cuDevicePrimaryCtxReset",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphLaunch",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
)
OLDEST = (*BASE, "cuGraphInstantiate")
NEWEST = (
    *OLDEST,
    "cuGraphInstantiate_v2",
    "cuGraphInstantiateWithFlags",
    "cuDevicePrimaryCtxReset_v2",
)


class Called:
    """One function of the library; ctypes lets its argument types be set."""

    argtypes: tuple[Any, ...] = ()

    def __init__(self, name: str, library: Library) -> None:
        self.name, self.library = name, library

    def __call__(self, *arguments: Any) -> int:
        self.library.calls.append(self.name)
        if self.name == "cuGetErrorString":
            arguments[1]._obj.value = TEXT
        elif self.name == "cuStreamEndCapture":
            arguments[1]._obj.value = GRAPH
        elif self.name.startswith("cuGraphInstantiate"):
            arguments[0]._obj.value = EXECUTABLE
        return self.library.failures.get(self.name, 0)


class Library:
    """Has the functions of one version of the driver, and fails where it is told to."""

    def __init__(self, names: tuple[str, ...], **failures: int) -> None:
        self.calls: list[str] = []
        self.failures = failures
        for name in names:
            setattr(self, name, Called(name, self))


def driver(names: tuple[str, ...] = NEWEST, **failures: int) -> tuple[Driver, Library]:
    library: Any = Library(names, **failures)
    return Driver(library, library), library


def fail() -> None:
    raise ValueError("a launch was refused")


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (OLDEST, "cuGraphInstantiate"),
        ((*OLDEST, "cuGraphInstantiate_v2"), "cuGraphInstantiate_v2"),
        (NEWEST, "cuGraphInstantiateWithFlags"),
    ],
    ids=["CUDA 10.2", "CUDA 11.0", "CUDA 11.4"],
)
def test_a_graph_is_instantiated_by_the_newest_form_that_the_driver_has(names, form):
    made, library = driver(names)
    recorded: list[str] = []
    assert made.capture(STREAM, lambda: recorded.append("work")) == EXECUTABLE
    assert recorded == ["work"]
    assert library.calls == [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        form,
        "cuGraphDestroy",
    ]


def test_work_that_fails_under_capture_leaves_the_stream_usable():
    made, library = driver()
    with pytest.raises(ValueError, match="refused"):
        made.capture(STREAM, fail)
    assert library.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]


def test_a_graph_that_does_not_fit_is_destroyed_and_said_so():
    made, library = driver(cuGraphInstantiateWithFlags=2)
    with pytest.raises(DeviceError, match="cuGraphInstantiateWithFlags failed: out of memory"):
        made.capture(STREAM, lambda: None)
    assert "cuGraphDestroy" in library.calls


def test_a_replay_pops_its_context_whatever_happens():
    for failing in ("cuGraphLaunch", "cuStreamSynchronize", ""):
        made, library = driver(**({failing: 700} if failing else {}))
        if failing:
            with pytest.raises(DeviceError, match=failing) as caught:
                made.replay(CONTEXT, EXECUTABLE, STREAM)
            assert caught.value.is_sticky
        else:
            made.replay(CONTEXT, EXECUTABLE, STREAM)
        assert library.calls[0] == "cuCtxPushCurrent_v2"
        assert library.calls.count("cuCtxPopCurrent_v2") == 1


def test_a_context_that_cannot_be_made_current_is_not_popped():
    made, library = driver(cuCtxPushCurrent_v2=709)
    with pytest.raises(DeviceError, match="cuCtxPushCurrent"):
        made.replay(CONTEXT, EXECUTABLE, STREAM)
    assert "cuCtxPopCurrent_v2" not in library.calls


@pytest.mark.parametrize(
    ("names", "form"),
    [(OLDEST, "cuDevicePrimaryCtxReset"), (NEWEST, "cuDevicePrimaryCtxReset_v2")],
)
def test_a_context_is_reset_by_the_form_that_the_driver_has(names, form):
    made, library = driver(names)
    made.reset(0)
    assert library.calls == [form]


def test_a_driver_that_is_not_there_is_said_with_its_remedy():
    with pytest.raises(EngineError, match=r"libno-such-cuda\.so\.1 does not load") as caught:
        Driver.open("libno-such-cuda.so.1")
    assert "driver" in caught.value.hint


def test_a_driver_without_graphs_is_refused():
    with pytest.raises(EngineError, match="knows no graphs"):
        Driver.open("libm.so.6")


def test_the_driver_s_words_lead_back_to_the_code():
    made, _ = driver()
    assert set(made.texts()) == {TEXT.decode()}
    assert made.error(2, "cuMemAlloc").code == 2


def test_handles_are_passed_as_pointers():
    made, library = driver()
    made.destroy(EXECUTABLE)
    assert library.calls == ["cuGraphExecDestroy"]
    launch: Callable[..., int] = made._launch
    assert launch.argtypes == (ctypes.c_void_p, ctypes.c_void_p)  # type: ignore[attr-defined]
