from __future__ import annotations

import io
import json
import math

import pytest

from edgeq.cli import output
from edgeq.cli.output import (
    BarProgress,
    JsonProgress,
    no_progress,
    print_json,
    print_table,
    printable,
    shown_progress,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(output.time, "monotonic", clock)
    return clock


# ---- JSON


def test_json_is_one_line_that_any_parser_takes(capsys):
    print_json({"a": [1.5, math.nan], "b": {"c": math.inf}, "d": (1, "x")})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {
        "a": [1.5, None], "b": {"c": None}, "d": [1, "x"],
    }  # fmt: skip
    assert out.count("\n") == 1


# ---- tables


def test_columns_are_as_wide_as_their_content(capsys):
    print_table(("name", "n"), [("a", 10), ("longer", 2)])
    assert capsys.readouterr().out.splitlines() == ["name    n", "a       10", "longer  2"]


def test_a_file_or_pipe_gets_every_character(capsys):
    print_table(("reason",), [("x" * 500,)])
    assert "x" * 500 in capsys.readouterr().out


def test_a_terminal_gets_lines_of_its_width(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(output.sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("reason",), [("x" * 500,)])
    assert max(map(len, terminal.getvalue().splitlines())) == 60


def test_a_cell_cannot_drive_the_terminal(capsys):
    print_table(("name",), [("a\x1b[2Jb\nc\r",)])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
    assert len(out.splitlines()) == 2
    assert "\N{REPLACEMENT CHARACTER}" in out


def test_letters_of_every_language_are_printable():
    assert printable("Zürich 東京 ñ") == "Zürich 東京 ñ"
    assert printable("a\nb", keep="\n") == "a\nb"


def test_a_table_without_rows_is_its_header(capsys):
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


# ---- progress


def test_json_progress_is_a_line_a_step(capsys, clock):
    progress = JsonProgress()
    clock.now += 0.5
    progress("calibrate", 0, 8)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err) == {
        "stage": "calibrate", "done": 0, "total": 8, "seconds": 0.5,
    }  # fmt: skip


def test_json_progress_is_limited_within_a_stage_but_never_loses_its_end(capsys, clock):
    progress = JsonProgress()
    for done in range(9):
        clock.now += 0.01
        progress("calibrate", done, 8)
    progress("bundle", 0, 0)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["stage"], line["done"]) for line in lines] == [
        ("calibrate", 0), ("calibrate", 8), ("bundle", 0),
    ]  # fmt: skip


def test_the_bar_fills_and_every_stage_has_its_line(capsys, clock):
    bar = BarProgress()
    for stage, done, total in (("calibrate", 0, 2), ("calibrate", 2, 2), ("bundle", 0, 0)):
        clock.now += 1.0
        bar(stage, done, total)
    bar.finish()
    err = capsys.readouterr().err
    assert "calibrate  " + "." * output.BAR_WIDTH in err
    assert "calibrate  " + "#" * output.BAR_WIDTH + "       2/2" in err
    assert err.count("\n") == 2
    assert err.endswith("\n")


def test_a_bar_is_never_longer_than_its_width(capsys, clock):
    BarProgress()("verify", 5, 2)
    assert "#" * (output.BAR_WIDTH + 1) not in capsys.readouterr().err


@pytest.mark.parametrize("kind", [None, "none"])
def test_without_a_terminal_nothing_is_shown(kind):
    with shown_progress(kind) as progress:
        assert progress is no_progress
        progress("calibrate", 1, 2)


def test_a_terminal_gets_a_bar_without_being_asked(monkeypatch):
    monkeypatch.setattr(output.sys, "stderr", Terminal())
    with shown_progress(None) as progress:
        assert isinstance(progress, BarProgress)
    with shown_progress("json") as progress:
        assert isinstance(progress, JsonProgress)


def test_an_error_leaves_the_bar_s_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(output.sys, "stderr", terminal)

    def fail() -> None:
        with shown_progress("bar") as progress:
            progress("calibrate", 1, 2)
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - its own
        fail()
    assert terminal.getvalue().endswith("\n")
