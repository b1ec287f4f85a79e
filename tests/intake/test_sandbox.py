from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import json, os, resource, socket, sys, threading
from edgeq.intake.sandbox import confine
measures = confine(2 << 30, 5)
def attempt(call):
    try:
        call()
    except BaseException as error:
        return type(error).__name__
    return "done"
"""


def _confined(code: str, **options: Any) -> Any:
    program = PRELUDE + textwrap.dedent(code)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=20, check=False, **options
    )
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def test_memory_cpu_files_and_dumps_are_limited() -> None:
    limits = _confined("""
        names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
        limits = [resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names]
        print(json.dumps(dict(zip(names, limits))))
    """)
    assert limits["AS"] == [2 << 30, 2 << 30]
    assert limits["CPU"] == [5, 6]
    assert limits["FSIZE"] == [1 << 20, 1 << 20]
    assert limits["CORE"] == limits["NPROC"] == [0, 0]


def test_a_limit_that_is_lower_already_stays() -> None:
    code = "print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))"
    preexec = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 30))\n"
    result = subprocess.run(
        [sys.executable, "-c", preexec + PRELUDE + code], capture_output=True, check=True
    )
    assert json.loads(result.stdout) == [30, 30]


def test_too_much_memory_is_an_error_of_the_child() -> None:
    assert _confined("print(json.dumps(attempt(lambda: bytearray(3 << 30))))") == "MemoryError"


def test_privileges_can_never_be_gained() -> None:
    status = _confined("print(json.dumps(open('/proc/self/status').read()))")
    assert "NoNewPrivs:\t1" in status


def test_landlock_forbids_writing_starting_and_connecting(tmp_path: Path) -> None:
    found = _confined(f"""
        folder = {os.fspath(tmp_path)!r}
        def connect():
            with socket.socket() as s: s.connect(("127.0.0.1", 9))
        print(json.dumps({{
            "measures": measures,
            "write": attempt(lambda: open(folder + "/x", "w")),
            "mkdir": attempt(lambda: os.mkdir(folder + "/d")),
            "exec": attempt(lambda: os.execv("/bin/true", ["true"])),
            "connect": attempt(connect),
            "read": attempt(lambda: open("/proc/cpuinfo").read()),
        }}))
    """)
    version = max([int(m[9:]) for m in found["measures"] if m.startswith("landlock-")], default=0)
    if not version:
        pytest.skip("this kernel has no Landlock")
    assert [found[k] for k in ("write", "mkdir", "exec")] == ["PermissionError"] * 3
    assert found["connect"] == ("PermissionError" if version >= 4 else "ConnectionRefusedError")
    assert found["read"] == "done"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_can_start_no_process_or_thread() -> None:
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    code = PRELUDE.replace("from edgeq.intake.sandbox import confine", "") + textwrap.dedent("""
        print(json.dumps([attempt(os.fork), attempt(threading.Thread(target=print).start)]))
    """)
    source = Path(__file__).parents[2] / "edgeq" / "intake" / "sandbox.py"
    code = source.read_text() + code
    result = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/env", "python3", "-c", code],
        capture_output=True, check=False,
    )  # fmt: skip
    if b"Permission denied" in result.stderr or b"No such file" in result.stderr:
        pytest.skip("that user cannot run Python here")
    assert json.loads(result.stdout.splitlines()[-1]) == ["BlockingIOError", "RuntimeError"]
