"""One record, three formats: each a line that its reader can take apart again."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterator

import pytest

from edgeq import log


def _record(level: int = logging.INFO, message: str = "swapped", **fields: object) -> str:
    record = logging.LogRecord("edgeq.swap", level, "swap.py", 1, message, (), None)
    vars(record).update(fields)
    record.created, record.msecs = 1_700_000_000.25, 250.0
    return log.TextFormatter().format(record)


def _formatted(formatter: logging.Formatter, level: int = logging.INFO, **fields: object) -> str:
    record = logging.LogRecord("edgeq.swap", level, "swap.py", 1, "swapped %s", ("face",), None)
    vars(record).update(fields)
    return formatter.format(record)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], _ = handlers, root.setLevel(level)


def test_a_text_line_has_time_level_module_message_and_fields() -> None:
    line = _record(model="face", version=3, seconds=0.12345)
    assert line.endswith("info    swap: swapped model=face version=3 seconds=0.123")
    assert line[4] == "-"
    assert line[10] == "T"
    assert line[19:23] == ".250"


@pytest.mark.parametrize("value", ["two words", 'a "quote"', "a=b", "", "two\nlines", "tab\there"])
def test_a_field_that_is_no_plain_word_is_quoted(value: str) -> None:
    line = _record(reason=value)
    assert "\n" not in line
    assert line.split("reason=", 1)[1] == json.dumps(value)


def test_a_newline_in_a_message_begins_no_line() -> None:
    assert "\n" not in _record(message="bad name 'x\n2030-01-01 info forged'")


def test_plain_fields_are_not_quoted() -> None:
    assert shlex.split(_record(model="face", outcome="committed"))[-2:] == [
        "model=face",
        "outcome=committed",
    ]


def test_a_field_that_nobody_declared_is_left_out() -> None:
    assert "password" not in _record(password="x")


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)],
)
def test_a_journal_line_starts_with_its_priority_and_has_no_time(level: str, priority: int) -> None:
    line = _formatted(log.JournalFormatter(), getattr(logging, level), model="face")
    assert line == f"<{priority}>{level.lower():7s} swap: swapped face model=face"


def test_every_line_of_a_traceback_keeps_the_priority_in_the_journal() -> None:
    lines = _formatted(log.JournalFormatter(), logging.ERROR, exc_info=_exc_info()).splitlines()
    assert len(lines) > 1
    assert all(line.startswith("<3>") for line in lines)


def _exc_info() -> object:
    try:
        raise ValueError("broken")
    except ValueError:
        return sys.exc_info()


def test_a_json_line_is_one_object() -> None:
    line = _formatted(log.JsonFormatter(), model="face", seconds=1.5, exc_info=_exc_info())
    assert "\n" not in line
    record = json.loads(line)
    assert record["message"] == "swapped face"
    assert record["level"] == "info"
    assert record["logger"] == "edgeq.swap"
    assert (record["model"], record["seconds"]) == ("face", 1.5)
    assert "ValueError: broken" in record["traceback"]


def test_a_value_that_json_does_not_know_becomes_text() -> None:
    line = _formatted(log.JsonFormatter(), reason=ValueError("broken"))
    assert json.loads(line)["reason"] == "broken"


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("log_format", list(log.FORMATTERS))
def test_configured_logging_goes_to_stderr_once(
    log_format: log.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(log_format, "warning")
    log.configure(log_format, "warning")
    logging.getLogger("edgeq.swap").warning("kept")
    logging.getLogger("edgeq.swap").info("below the level")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("kept") == 1
    assert "below" not in captured.err


@pytest.mark.usefixtures("restored_logging")
def test_chatty_libraries_are_held_to_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("text", "debug")
    logging.getLogger("watchdog.observers").debug("noise")
    assert capsys.readouterr().err == ""
