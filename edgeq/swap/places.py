"""The places that a slot has for requests, of all its versions: how many, how many are taken."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from edgeq.errors import UnavailableError


class Places:
    """Counts requests in and out; `lock` guards this and all that its slot knows of requests.

    Args:
        limit: requests that may wait and run at a time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.overdue = float("inf")  # time.monotonic() at which a waiting request may be too late
        self.lock = threading.Lock()
        self._let_go = threading.Condition(self.lock)

    @property
    def is_full(self) -> bool:
        """Say whether the next request would be refused."""
        return self.taken >= self.limit

    def free(self, count: int, *, is_last: bool) -> None:
        """Give places back, with the lock held; `is_last` where a version holds none any more."""
        self.taken -= count
        if is_last or self.taken == 0:
            self._let_go.notify_all()

    def wait_until(self, is_drained: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for requests to go; False where they did not in time."""
        with self.lock:
            return self._let_go.wait_for(is_drained, timeout_s)

    def refusal(self, name: str, typical_s: float, instances: int) -> UnavailableError:
        """Return what a client hears who finds no place: to return when all have gone."""
        wait_s = self.taken * typical_s / instances if math.isfinite(typical_s) else 0.0
        return UnavailableError(
            f"model {name!r} has {self.taken} requests waiting or running; it takes {self.limit}",
            retry_after_s=max(1, math.ceil(wait_s)),
            hint="Send fewer requests at a time, or raise swap.queue_size.",
        )
