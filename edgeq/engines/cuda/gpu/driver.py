"""libcuda through ctypes, for what pycuda lacks: graphs, a context's reset, the errors' names."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from edgeq.engines.cuda.gpu.faults import FAULTS, device_error
from edgeq.errors import DeviceError, EngineError

SONAME = "libcuda.so.1"
INSTALL_HINT = (
    "Install the GPU's driver: on a Jetson it is part of JetPack (`apt install nvidia-l4t-cuda`), "
    "elsewhere `apt install nvidia-driver-580`; in a container run it with `--gpus all` or "
    "`--runtime nvidia`."
)

# Calls of other threads, e.g. an allocation of another library, do not spoil a capture.
_CAPTURE_THREAD_LOCAL = 1


class Driver:
    """The driver's library; every handle is the integer that pycuda gives for its own objects.

    A call that may wait lets other Python threads run meanwhile. The others do not: they take some
    microseconds, and a thread that lets go of the interpreter waits up to 5 ms to have it back
    while another one computes.
    """

    def __init__(self, waiting: ctypes.CDLL, holding: ctypes.PyDLL) -> None:
        self._waiting = waiting
        self._push = _function(holding, "cuCtxPushCurrent_v2", ctypes.c_void_p)
        self._pop = _function(holding, "cuCtxPopCurrent_v2", ctypes.POINTER(ctypes.c_void_p))
        self._launch = _function(holding, "cuGraphLaunch", ctypes.c_void_p, ctypes.c_void_p)
        self._synchronize = _function(waiting, "cuStreamSynchronize", ctypes.c_void_p)

    @classmethod
    def open(cls, soname: str = SONAME) -> Driver:
        """Open the driver of this box.

        Raises:
            EngineError: there is none, or it is older than CUDA 10.
        """
        try:
            return cls(ctypes.CDLL(soname), ctypes.PyDLL(soname))
        except OSError as error:
            raise EngineError(
                f"the GPU's driver {soname} does not load: {error}", hint=INSTALL_HINT
            ) from error
        except AttributeError as error:
            raise EngineError(
                f"the GPU's driver {soname} knows no graphs; edgeq needs CUDA 10.2 or newer",
                hint="Update the GPU's driver.",
            ) from error

    def error(self, code: int, call: str) -> DeviceError:
        """Return the error for what a call returned."""
        return device_error(code, call, self._words(code))

    def texts(self) -> dict[str, int]:
        """Return the driver's words for each error that edgeq knows -> its code."""
        return {self._words(code): code for code in FAULTS}

    def _words(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._waiting.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
        return (text.value or b"").decode("utf-8", "replace")

    def capture(self, stream: int, record: Callable[[], None]) -> int:
        """Return the handle of an executable graph of what `record` puts on the stream.

        Raises:
            DeviceError: the work cannot be captured, or the graph does not fit in memory.
        """
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _CAPTURE_THREAD_LOCAL)
        try:
            record()
        except BaseException:
            self._abandon_capture(stream)
            raise
        graph = ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            return self._instantiate(graph)
        finally:
            self._call("cuGraphDestroy", graph)

    def _abandon_capture(self, stream: int) -> None:
        """End a capture that failed; the stream takes work again, and the result says nothing."""
        graph = ctypes.c_void_p()
        self._waiting.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
        if graph:
            self._waiting.cuGraphDestroy(graph)

    def _instantiate(self, graph: ctypes.c_void_p) -> int:
        """Make a graph executable, by the newest of three forms that the driver has."""
        executable = ctypes.c_void_p()
        if hasattr(self._waiting, "cuGraphInstantiateWithFlags"):  # CUDA 11.4
            no_flags = ctypes.c_ulonglong(0)
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, no_flags)
        else:
            has_second = hasattr(self._waiting, "cuGraphInstantiate_v2")  # CUDA 11.0
            name = "cuGraphInstantiate_v2" if has_second else "cuGraphInstantiate"
            no_log = (ctypes.c_void_p(), ctypes.c_char_p(), ctypes.c_size_t(0))
            self._call(name, ctypes.byref(executable), graph, *no_log)
        assert executable.value
        return executable.value

    def launch(self, graph: int, stream: int) -> None:
        """Put an executable graph on a stream of the current context.

        Raises:
            DeviceError: the driver refuses.
        """
        if code := self._launch(graph, stream):
            raise self.error(code, "cuGraphLaunch")

    def replay(self, context: int, graph: int, stream: int) -> None:
        """Run an executable graph and wait for its end, on any thread.

        The context is current to this thread for as long, and by the driver alone: pycuda ends
        the process with a thread that it believes to have a context.

        Raises:
            DeviceError: it failed; after a sticky error the context is lost.
        """
        if code := self._push(context):
            raise self.error(code, "cuCtxPushCurrent")
        try:
            self.launch(graph, stream)
            if code := self._synchronize(stream):
                raise self.error(code, "cuStreamSynchronize")
        finally:
            self._pop(ctypes.byref(ctypes.c_void_p()))

    def destroy(self, graph: int) -> None:
        """Free an executable graph.

        Raises:
            DeviceError: the context is lost.
        """
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def pop_context(self) -> None:
        """Take what is left off this thread's stack of contexts.

        pycuda leaves a primary context there when it detaches from it: it takes the release for
        one that pops, as cuCtxDetach does.
        """
        current = ctypes.c_void_p()
        while not self._waiting.cuCtxGetCurrent(ctypes.byref(current)) and current:
            if self._pop(ctypes.byref(current)):
                return

    def reset(self, ordinal: int) -> None:
        """Destroy the primary context of a device, whoever else holds it.

        Raises:
            DeviceError: the driver refuses: the process cannot use this GPU any more.
        """
        name = "cuDevicePrimaryCtxReset_v2"  # CUDA 11.0
        if not hasattr(self._waiting, name):
            name = "cuDevicePrimaryCtxReset"
        self._call(name, ordinal)

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._waiting, name)(*arguments)
        if code:
            raise self.error(code, name)


def _function(library: ctypes.CDLL, name: str, *argument_types: Any) -> Callable[..., int]:
    function = getattr(library, name)
    function.argtypes = argument_types
    called: Callable[..., int] = function
    return called
