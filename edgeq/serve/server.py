"""Protocol frontends -> one event loop: start, serve, stop gracefully."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from edgeq.errors import EdgeqError


class Frontend(Protocol):
    """One protocol's side of the server; called on the event loop."""

    async def start(self) -> None:
        """Take requests from now on; EdgeqError where that cannot be."""

    async def stop(self, grace_s: float, *, park: bool = False) -> None:
        """Take no more, let what is inside finish within the grace, and hang up.

        `park`: keep connections open for the next process where the protocol can.
        """


class Server:
    """Runs all frontends on one event loop; `run` is the body of a thread.

    Args:
        frontends: what is run.
        note: takes an error that the loop met, e.g. no descriptor for a connection; None where it
            is nothing that it knows.
    """

    def __init__(
        self, frontends: Sequence[Frontend], note: Callable[[BaseException], object] | None = None
    ) -> None:
        self._frontends = frontends
        self._note = note
        self._has_started = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()  # loop and stop come from two threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: tuple[float, bool] | None = None

    def run(self) -> None:
        """Serve until `stop`; blocks the calling thread."""
        asyncio.run(self._serve())

    def wait_started(self) -> None:
        """Return once every frontend takes requests; raises what kept one from it."""
        self._has_started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, grace_s: float, *, park: bool = False) -> None:
        """Let `run` return; safe from any thread, returns at once."""
        with self._lock:
            self._stop = (grace_s, park)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._asked.set)

    def beat(self, answer: Callable[[], None]) -> None:
        """Have `answer` called at the loop's next turn, or never where it does not run."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(answer)

    def _met(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Without descriptors asyncio asks again each second, and would log as often."""
        error = context.get("exception")
        if self._note is None or error is None or self._note(error) is None:
            loop.default_exception_handler(context)

    async def _serve(self) -> None:
        self._asked = asyncio.Event()
        started: list[Frontend] = []
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._loop.set_exception_handler(self._met)
            if self._stop is not None:
                self._asked.set()
        try:
            for frontend in self._frontends:
                await frontend.start()
                started.append(frontend)
            self._has_started.set()
            await self._asked.wait()
        except EdgeqError as error:
            self._failure = error  # for `wait_started` to raise: it is no news in this thread
        except BaseException as error:
            self._failure = error
            raise
        finally:
            grace_s, park = self._stop or (0.0, False)
            await asyncio.gather(*(each.stop(grace_s, park=park) for each in started))
            with self._lock:
                self._loop = None
            self._has_started.set()
