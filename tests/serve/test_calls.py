"""What was left until an answer is sent is done, and harms no answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from edgeq.serve.calls import Call, Calls, RequestRecord
from edgeq.serve.statistics import Statistics


def test_what_was_left_is_done_once_the_call_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    plane: Any = None  # nothing is asked of it
    calls = Calls(plane, 5, Statistics(), told.append)

    def fail() -> None:
        raise MemoryError("no room for a copy")

    call = Call("http", model="m", afterwards=[fail, lambda: told.append("kept")])
    with caplog.at_level(logging.ERROR):
        calls.finish(call, "200", succeeded=True)
    record, last = told
    assert isinstance(record, RequestRecord)
    assert (record.model, record.code, last) == ("m", "200", "kept")
    assert "no room for a copy" in caplog.text
