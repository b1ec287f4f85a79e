"""Work of any thread -> the one thread that owns a resource, from its first user to its last.

A thread that ends while a CUDA context is current to it ends the process, and memory that is freed
on another thread than its own leaks: so all of it is done here. What a call raised is freed of its
frames before the caller sees it, because they hold what only this thread may free.
"""

from __future__ import annotations

import atexit
import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from edgeq.errors import EngineError

Resource = TypeVar("Resource")
Result = TypeVar("Result")

EXIT_PATIENCE_S = 10.0  # for work that still runs when the interpreter ends


class Call(Generic[Result]):
    """A piece of work that was handed over, and how it ended."""

    def __init__(self, work: Callable[[Any], Result]) -> None:
        self._work: Callable[[Any], Result] | None = work
        self._result: Result | None = None
        self._error: BaseException | None = None
        # A bare lock: 5 us from hand-over to answer less than a Future's condition takes.
        self._running = threading.Lock()
        self._running.acquire()

    @property
    def is_done(self) -> bool:
        """Say whether it has ended."""
        return not self._running.locked()

    def result(self) -> Result:
        """Wait for the end; return the result, or raise what the work raised."""
        with self._running:
            if self._error is not None:
                raise self._error
            return cast("Result", self._result)

    def run(self, resource: Any) -> None:
        """Do the work; on the owning thread."""
        work, self._work = self._work, None
        assert work is not None
        try:
            self._result = work(resource)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            _clear_frames(error)
            self._error = error
        finally:
            del work
            self._running.release()


@dataclass(eq=False)
class _Life(Generic[Resource]):
    """From a start of the thread to its end."""

    opening: Call[None]
    closing: Call[None]
    calls: queue.SimpleQueue[Call[Any] | None] = field(default_factory=queue.SimpleQueue)
    held: list[Resource] = field(default_factory=list)  # what the thread owns: nothing, or one
    use: threading.Lock = field(default_factory=threading.Lock)  # whoever works on it has this
    thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Say whether the thread has ended; a forked child never had it."""
        return self.thread is None or not self.thread.is_alive()

    def serve(self) -> None:
        self._do(self.opening, self.held)
        while self.held:
            call = self.calls.get()
            if call is None:
                self._do(self.closing, self.held)
                return
            self._do(call, self.held[0])
            del call  # and with it the result, before it waits for the next one

    def _do(self, call: Call[Any], resource: Any) -> None:
        with self.use:
            call.run(resource)


class OwnerThread(Generic[Resource]):
    """Starts its thread for the first user and ends it with the last; usable again afterwards.

    Work must not become or stop being a user: that waits for the work to end.

    Args:
        name: of the thread.
        open_resource: makes what the thread owns, on the thread.
        close_resource: frees it, on the thread.
    """

    def __init__(
        self,
        name: str,
        open_resource: Callable[[], Resource],
        close_resource: Callable[[Resource], None],
    ) -> None:
        self._name = name
        self._open = open_resource
        self._close = close_resource
        self._turn = threading.Lock()  # users come and go one at a time
        self._users = 0
        self._lock = threading.Lock()  # what follows; never held across work
        self._life: _Life[Resource] | None = None

    @property
    def users(self) -> int:
        """How many users there are."""
        return self._users

    @property
    def is_running(self) -> bool:
        """Say whether there is work to be done on the thread, from its start to its end."""
        life = self._life
        return life is not None and not life.is_over

    def acquire(self) -> None:
        """Become a user; the first one starts the thread, and gets what opening raised."""
        with self._turn:
            if self._life is None:
                self._start()
            self._users += 1

    def release(self) -> None:
        """Stop being a user; the last one ends the thread, and gets what closing raised."""
        with self._turn:
            self._users -= 1
            if self._users == 0:
                self._stop(None)

    def submit(self, work: Callable[[Resource], Result]) -> Call[Result]:
        """Hand over work, which is done after what was handed over before.

        Raises:
            EngineError: the thread does not run.
        """
        call = Call(work)
        with self._lock:
            self._present().calls.put(call)
        return call

    def call(self, work: Callable[[Resource], Result]) -> Result:
        """Do work on the thread and return its result, or raise what it raised.

        Raises:
            EngineError: as `submit`.
        """
        return self.submit(work).result()

    def call_here(self, work: Callable[[Resource], Result]) -> Result:
        """Do work on the caller's thread, while the resource's own leaves it alone.

        For what makes and frees nothing. Two threads need not wake up: a graph of a driver that
        does nothing was replayed in 4 us, and in 20 to 60 us through `call` (2 x86 cores).

        Raises:
            EngineError: as `submit`.
        """
        life = self._present()
        with life.use:
            if not life.held:
                raise self._not_running()
            return work(life.held[0])

    def _present(self) -> _Life[Resource]:
        life = self._life
        if life is None or life.is_over:
            raise self._not_running()
        return life

    def _not_running(self) -> EngineError:
        return EngineError(f"the thread {self._name!r} does not run: its last user has gone")

    def _start(self) -> None:
        life: _Life[Resource] = _Life(
            Call(lambda held: held.append(self._open())), Call(lambda held: self._close(held.pop()))
        )
        # A daemon: the interpreter waits for others before `atexit`, where this one is ended.
        life.thread = threading.Thread(target=life.serve, name=self._name, daemon=True)
        life.thread.start()
        try:
            life.opening.result()
        except BaseException:
            life.thread.join()
            raise
        atexit.register(self._stop, EXIT_PATIENCE_S)
        with self._lock:
            self._life = life

    def _stop(self, patience_s: float | None) -> None:
        with self._lock:
            life, self._life = self._life, None
        if life is None or life.thread is None:
            return
        atexit.unregister(self._stop)
        life.calls.put(None)
        life.thread.join(patience_s)
        if life.closing.is_done:  # not in a forked child, nor if the work does not end
            life.closing.result()


def _clear_frames(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
