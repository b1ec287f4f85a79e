"""Whatever a child does, or leaves undone: it ends, and with it what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.daemon import child as module
from edgeq.daemon.child import Child

LONG_S = 60.0
BUSY = "while True: pass"


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.05)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.returncode is None:
            process.kill()
            process.wait()


@pytest.fixture
def start(started: list[subprocess.Popen[bytes]]):
    def run(code: str, timeout_s: float = LONG_S, stall_s: float = LONG_S) -> Child:
        started.append(
            subprocess.Popen(
                [sys.executable, "-S", "-c", code], stderr=subprocess.PIPE, start_new_session=True
            )
        )
        return Child(started[-1], timeout_s=timeout_s, stall_s=stall_s)

    return run


def test_what_it_says_comes_line_by_line_and_then_its_exit_code(start) -> None:
    child = start("import sys; sys.stderr.write('one\\ntwo\\nand a half'); sys.exit(3)")
    assert list(child.lines()) == ["one", "two", "and a half"]
    assert child.wait() == 3
    assert child.ended_for == ""


def test_one_that_stands_still_is_ended(start) -> None:
    child = start("import time; print('here', file=__import__('sys').stderr, flush=True);"
                  "time.sleep(600)", stall_s=0.4)  # fmt: skip
    assert list(child.lines()) == ["here"]
    assert (child.wait(), child.ended_for) == (-signal.SIGKILL, "stalled")


def test_one_that_works_in_silence_goes_on_until_its_time_is_up(start) -> None:
    child = start(BUSY, timeout_s=2.0, stall_s=1.0)
    assert list(child.lines()) == []
    assert (child.wait(), child.ended_for) == (-signal.SIGKILL, "late")


def test_one_that_was_stopped_or_ignores_sigterm_is_ended_too(start, started) -> None:
    child = start("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                  "time.sleep(600)", stall_s=0.4)  # fmt: skip
    started[-1].send_signal(signal.SIGSTOP)
    assert list(child.lines()) == []
    assert (child.wait(), child.ended_for) == (-signal.SIGKILL, "stalled")


def test_what_it_leaves_behind_keeps_nobody_waiting(start, tmp_path: Path) -> None:
    number = tmp_path / "grandchild"
    child = start(
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    open({str(number)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        f"while not os.path.exists({str(number)!r}): time.sleep(0.01)\n"
        "os._exit(0)\n"
    )
    began = time.monotonic()
    assert list(child.lines()) == []
    assert child.wait() == 0
    assert time.monotonic() - began < LONG_S / 2
    grandchild = int(number.read_text() or 0)
    deadline = time.monotonic() + 10
    while is_running(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_work_of_those_it_started_counts_as_its_own(start) -> None:
    child = start(
        f"import os\nif os.fork() == 0:\n    {BUSY}\nos.wait()\n",
        timeout_s=2.0,
        stall_s=1.0,
    )
    assert list(child.lines()) == []
    assert child.ended_for == "late"


def test_one_that_cannot_be_ended_is_left_behind(start, monkeypatch) -> None:
    monkeypatch.setattr(module, "REAP_S", 0.2)
    monkeypatch.setattr(os, "killpg", lambda group, number: None)
    child = start("import time; time.sleep(600)", stall_s=0.2)
    assert list(child.lines()) == []
    assert child.wait() is None
    assert child.ended_for == "stalled"
