"""When to look at the drop folder, and a thread to look on.

A folder on a disk or a network that hangs must hold up neither what serves nor the watchdog.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edgeq.daemon.arrivals import PENDING_SCAN_S
from edgeq.daemon.deployment import Context


class FolderWatch:
    """Looks when it is time to; used by the main thread.

    Args:
        context: with the configuration, and safe mode, in which drops stay where they are.
        look: looks at the folder; takes and returns seconds, as `Arrivals.look`.
        guarded: calls a function, and logs what it raises.
        wake: called after each look.
    """

    def __init__(
        self,
        context: Context,
        look: Callable[[float], float],
        guarded: Callable[[Callable[[], None]], None],
        wake: Callable[[], None],
    ) -> None:
        self._context = context
        self._look = look
        self._guarded = guarded
        self._wake = wake
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scan")
        self._next = 0.0  # time.monotonic(); infinity while a look is under way
        self._is_hinted = False  # that something happened meanwhile

    def due_in_s(self, now: float) -> float:
        """Return when `start_if_due` is to be called again."""
        return max(0.0, self._next - now)

    def hint(self) -> None:
        """Look soon: something happened in the folder."""
        self._is_hinted = True

    def start_if_due(self, now: float) -> None:
        """Begin a look, if it is time for it and none is under way."""
        if self._is_hinted and self._next < math.inf:
            self._is_hinted = False
            self._next = min(self._next, now + PENDING_SCAN_S)
        if now < self._next:
            return
        if self._context.starts.safe_mode is not None:
            self._next = now + self._context.config.intake.rescan_s
            return
        self._next = math.inf
        self._thread.submit(self._guarded, self.look)

    def look(self) -> None:
        """Look now, on the caller's thread."""
        wait_s = self._context.config.intake.rescan_s
        try:
            wait_s = self._look(wait_s)
        finally:
            self._next = time.monotonic() + wait_s
            self._wake()

    def stop(self, *, wait: bool) -> None:
        """Begin no further look, and wait for the one under way."""
        self._thread.shutdown(wait=wait, cancel_futures=True)
