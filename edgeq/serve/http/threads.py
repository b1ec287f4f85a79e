"""Calls that may wait -> worker threads, so that the event loop goes on with the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """A bounded number of threads; more calls wait for one of them."""

    def __init__(self, count: int = 8) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="call")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)

    def close(self) -> None:
        """Start nothing more; what runs is left to end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
