from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

import edgeq as package
from edgeq.cli import COMMANDS as BY_MODULE
from edgeq.cli import box, main, make_parser
from edgeq.errors import EdgeqError, UsageError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "run", "build", "calibrate", "merge", "export", "eval", "bench", "report", "status", "history",
    "rollback", "pin", "unpin", "recalibrate", "quarantine", "samples", "reload", "check-config",
    "doctor", "resume",
}  # fmt: skip
WITHOUT_JSON = {"run"}


def registered(command: str = "") -> dict[str, argparse.ArgumentParser]:
    for action in make_parser(command)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("there are no commands")


def test_the_commands_are_those_that_others_rely_on():
    assert set(registered()) == COMMANDS


@pytest.mark.parametrize("module", BY_MODULE)
def test_a_command_needs_its_own_module_only(module):
    for command in BY_MODULE[module]:
        assert tuple(registered(command)) == BY_MODULE[module]


def test_a_build_does_without_the_daemon_and_a_question_to_it_without_numpy():
    for command, spared in (("build", "edgeq.daemon"), ("status", "numpy")):
        told = f"import sys, edgeq.cli; edgeq.cli.make_parser({command!r}); "
        told += f"sys.exit({spared!r} in sys.modules)"
        assert subprocess.run([sys.executable, "-c", told], timeout=60, check=False).returncode == 0


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in registered() if f"edgeq {name}" not in readme] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_ends_with_an_example_that_parses(name, edgeq):
    ran = edgeq(name, "--help")
    assert ran.code == 0
    before, _, example = ran.out.partition("\nexample:\n")
    assert before.startswith(f"usage: edgeq {name}")
    words = example.split()
    assert words[:2] == ["edgeq", name]
    make_parser().parse_args(words[1:])


def test_every_command_answers_in_json():
    plain = {
        name
        for name, parser in registered().items()
        if "--json" not in parser._option_string_actions
    }
    assert plain == WITHOUT_JSON


def test_the_whole_has_help_with_an_example_too(edgeq):
    ran = edgeq("--help")
    assert ran.code == 0
    assert "example:\n  edgeq build " in ran.out
    assert all(name in ran.out for name in COMMANDS)


def test_the_version_is_the_package_s(edgeq):
    assert edgeq("--version").out == f"edgeq {package.__version__}\n"


@pytest.mark.parametrize("words", [[], ["infer"], ["build"], ["rollback"], ["status", "--bogus"]])
def test_bad_usage_exits_2_and_says_so_on_stderr(words, edgeq):
    ran = edgeq(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("usage: edgeq")
    assert "error: " in ran.err


def test_a_flag_is_never_guessed_from_its_beginning(edgeq):
    assert edgeq("bench", "x.tflite", "--thr", "2").code == 2


# ---- errors become messages and exit codes


@pytest.fixture
def failing(monkeypatch):
    """`edgeq doctor --json` with an error of the test's own inside."""

    def fail(error: BaseException) -> None:
        def examine():
            raise error

        monkeypatch.setattr(box, "examine", examine)

    return fail


@pytest.mark.parametrize(("kind", "code"), [(EdgeqError, 1), (UsageError, 2)])
def test_an_error_is_told_on_stderr_with_its_hint(kind, code, edgeq, failing):
    failing(kind("the thing is so; expected otherwise", hint="Do this."))
    ran = edgeq("doctor")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == "edgeq: the thing is so; expected otherwise\nhint: Do this.\n"


def test_an_error_is_one_json_object_where_json_was_asked_for(edgeq, failing):
    failing(UsageError("no", hint="Do this."))
    ran = edgeq("doctor", "--json")
    assert ran.json == {"error": "no", "hint": "Do this.", "kind": "UsageError"}
    assert "no" in ran.err


def test_an_error_without_a_hint_has_no_hint_line(edgeq, failing):
    failing(EdgeqError("no"))
    assert edgeq("doctor").err == "edgeq: no\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/etc/shadow"), "/etc/shadow: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_what_the_box_refuses_is_no_traceback(error, message, edgeq, failing):
    failing(error)
    ran = edgeq("doctor", "--json")
    assert ran.code == 1
    assert ran.json["error"] == message
    assert ran.json["hint"]


def test_control_c_exits_as_shells_expect(edgeq, failing):
    failing(KeyboardInterrupt())
    assert edgeq("doctor").code == 130


def test_a_bug_is_not_hidden(failing):
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


# ---- as a program


def test_a_closed_pipe_ends_it_without_noise():
    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        noise = process.stderr.read()
        code = process.wait(timeout=30)
    assert code == 1
    assert b"Traceback" not in noise
    assert b"BrokenPipe" not in noise


def test_the_module_is_the_program():
    ran = subprocess.run(
        [sys.executable, "-m", "edgeq", "infer"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "invalid choice: 'infer'" in ran.stderr
