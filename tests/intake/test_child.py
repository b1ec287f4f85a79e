from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

import pytest

from edgeq.errors import DropError
from edgeq.intake import child
from edgeq.intake.child import ProbeLimits, check_sandbox, probe_command, run_probe
from edgeq.intake.sandbox import PURPOSES, lacks
from edgeq.intake.syscalls import AUDIT_ARCHITECTURES
from tests import tiny

MODEL = Path("model.tflite")


def _play(monkeypatch: pytest.MonkeyPatch, code: str, **limits: float) -> DropError:
    """Run `code` in place of the probe; return the error."""
    prelude = "import ctypes, os, resource, signal, sys, time\n"
    command = [sys.executable, "-c", prelude + code]
    monkeypatch.setattr(child, "probe_command", lambda *_: command)
    with pytest.raises(DropError) as caught:
        run_probe(MODEL, ProbeLimits(**limits))  # type: ignore[arg-type]
    assert caught.value.hint
    return caught.value


LOADING = "print('phase structure\\nphase load', file=sys.stderr, flush=True)\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (LOADING + "os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV) while loading"),
        (LOADING + "ctypes.string_at(0)", "crashed (SIGSEGV) while loading"),
        ("os.abort()", "crashed (SIGABRT) while starting"),
        ("os.kill(os.getpid(), 40)", "crashed (signal 40)"),
        (LOADING + "os.kill(os.getpid(), signal.SIGSYS)", "no model needs while loading"),
        (LOADING + "os.kill(os.getpid(), signal.SIGKILL)", "killed while loading; the box may be"),
        ("print('what():  std::bad_alloc', file=sys.stderr, flush=True); os.abort()", "needs more"),
        ("raise ValueError('odd')", "failed while starting the model: ValueError: odd"),
        ("sys.exit(3)", "it said nothing"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", "CPU time"),
        ("print('{}')", "cannot be read"),
        ("print('not json')", "cannot be read"),
        ("print('[1]')", "cannot be read"),
        ('print(\'{"ok": {"inputs": 3}}\')', "cannot be read"),
    ],
)
def test_every_end_of_the_child_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    error = _play(monkeypatch, code)
    assert error.stage == "probe"
    assert message in error.message


def test_a_child_that_hangs_is_ended_with_all_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "pids"
    code = f"""
pid = os.fork()
with open({os.fspath(path)!r}, "a") as file: file.write(f"{{os.getpid()}}\\n")
time.sleep(60)
"""
    started = time.monotonic()
    error = _play(monkeypatch, code, timeout_s=1.0)
    assert time.monotonic() - started < 20
    assert "longer than 1 s" in error.message
    for pid in map(int, path.read_text().split()):
        assert _has_ended(pid)


def _has_ended(pid: int) -> bool:
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_refusal_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"error": {"stage": "load", "message": "needs FlexErf", "hint": "Convert again."}}
    error = _play(monkeypatch, f"print({json.dumps(json.dumps(answer))}); sys.exit(1)")
    assert (error.stage, error.message, error.hint) == ("load", "needs FlexErf", "Convert again.")


def test_a_flood_of_output_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    error = _play(monkeypatch, "sys.stdout.write('x' * (8 << 20))")
    assert error.stage == "probe"


def test_the_child_gets_a_clean_environment_and_no_open_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = "raise ValueError(sorted(os.environ), len(os.listdir('/proc/self/fd')), os.getcwd())"
        error = _play(monkeypatch, code)
    assert "SECRET_TOKEN" not in error.message
    assert "4, '/')" in error.message  # three standard ones, and the listing's own


def test_an_answer_that_only_an_attacker_would_write_costs_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = _play(monkeypatch, "print('{\"ok\":' * 100_000)")
    assert "cannot be read" in error.message
    lie = {"error": {"stage": "settle", "message": "try me again\x1b[2J", "hint": 3}}
    error = _play(monkeypatch, f"print({json.dumps(json.dumps(lie))}); sys.exit(1)")
    assert error.stage == "probe"
    assert "\x1b" not in error.message


def test_the_child_may_use_half_of_the_box_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ProbeLimits] = []
    monkeypatch.setattr(
        child, "probe_command", lambda _, limits: seen.append(limits) or [sys.executable, "-c", ""]
    )
    box = {"SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", lambda name: box[name])
    for pages, expected in ((1 << 20, 2 << 30), (1 << 18, 1 << 30), (1 << 30, 4 << 30)):
        box["SC_PHYS_PAGES"] = pages
        with pytest.raises(DropError):
            run_probe(MODEL, ProbeLimits())
        assert seen[-1].memory_bytes == expected


def test_the_real_child_answers(tmp_path: Path, tiny_model_bytes: bytes) -> None:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny_model_bytes)
    probe = run_probe(path, ProbeLimits())
    assert [(spec.name, spec.shape) for spec in probe.inputs] == [("image", (1, 8, 8, 3))]
    assert probe.ops["SOFTMAX"] == 1
    assert probe.finite
    assert not probe.quantized
    assert [str(measure).split("-")[0] for measure in probe.sandbox] == [
        name.split("-")[0] for name in PURPOSES
    ]


@pytest.mark.skipif(
    platform.machine() not in AUDIT_ARCHITECTURES, reason="no list of system calls for this machine"
)
def test_this_box_holds_a_hostile_model() -> None:
    assert lacks(check_sandbox()) == []


def test_where_the_child_must_be_confined_and_cannot_be_no_file_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = """
import platform, sys
from edgeq.intake.probe import main
platform.machine = lambda: "riscv64"
sys.exit(main(["--must-confine"]))
"""
    monkeypatch.setattr(child, "probe_command", lambda *_: [sys.executable, "-c", code])
    with pytest.raises(DropError, match="no list of system calls for riscv64") as caught:
        run_probe(MODEL, ProbeLimits(must_confine=True))
    assert caught.value.stage == "sandbox"
    assert "security.sandbox" in caught.value.hint


def test_what_must_be_confined_is_said_to_the_child() -> None:
    assert "--must-confine" not in probe_command(MODEL, ProbeLimits())
    assert "--must-confine" in probe_command(MODEL, ProbeLimits(must_confine=True))


@pytest.mark.parametrize(
    ("grows", "limits", "stage", "message"),
    [
        (False, ProbeLimits(cpu_s=2), "probe", "more than 2 s of CPU time while running"),
        (True, ProbeLimits(memory_bytes=512 << 20), "run", "inference failed"),
    ],
)
def test_a_model_that_never_ends_is_ended(
    tmp_path: Path, grows: bool, limits: ProbeLimits, stage: str, message: str
) -> None:
    path = tmp_path / "endless.tflite"
    path.write_bytes(tiny.endless_model(grows=grows).to_bytes())
    with pytest.raises(DropError, match=message) as caught:
        run_probe(path, limits)
    assert caught.value.stage == stage
