from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from edgeq.errors import EngineError
from edgeq.swap.done import Done


def test_a_value_is_there_at_once() -> None:
    future = Done(3)
    heard: list[object] = []
    future.add_done_callback(heard.append)
    assert heard == [future]
    assert (future.result(0), future.exception(0)) == (3, None)
    assert (future.done(), future.running(), future.cancel(), future.cancelled()) == (
        True, False, False, False,
    )  # fmt: skip
    assert isinstance(future, concurrent.futures.Future)
    assert repr(future) == "<Done 3>"


def test_an_error_is_raised() -> None:
    future: Done[int] = Done(None, EngineError("device lost"))
    assert isinstance(future.exception(), EngineError)
    with pytest.raises(EngineError, match="device lost"):
        future.result()


def test_a_coroutine_may_wait_for_it() -> None:
    async def wait() -> int:
        return await asyncio.wrap_future(Done(3))

    assert asyncio.run(wait()) == 3
