"""The child confines itself under the unit's own filter of system calls, too."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.intake import seccomp

UNIT = Path(__file__).parents[2] / "systemd" / "edgeq.service"
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
REFUSED = 0x0005_0001  # SystemCallErrorNumber=EPERM
START = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))
with open(sys.argv[1], "rb") as file:
    instructions = file.read()
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(instructions) // 8, instructions)), 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "edgeq.intake.probe", "--must-confine"])
"""


def _sets() -> dict[str, set[str]]:
    """systemd's own sets of system calls, each with its members resolved."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    ).stdout  # fmt: skip
    groups = re.findall(r"^(@[\w-]+)\n((?:^ .*\n?)*)", listed, re.MULTILINE)
    members = {name: re.findall(r"^ +([@\w-]+)$", body, re.MULTILINE) for name, body in groups}

    def resolve(name: str) -> set[str]:
        parts = members[name] if name.startswith("@") else []
        return {name} - members.keys() | {call for part in parts for call in resolve(part)}

    return {name: resolve(name) for name in members}


def _allowed_by_the_unit() -> set[str]:
    sets = _sets()
    allowed = set(sets["@default"])
    for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE):
        names = {call for word in line.strip("~").split() for call in sets.get(word, {word})}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


@pytest.fixture(scope="module")
def allowed() -> set[str]:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    return _allowed_by_the_unit()


def test_the_child_is_confined_under_the_unit_s_filter(allowed: set[str], tmp_path: Path) -> None:
    if platform.machine() != "x86_64" or not HEADER.exists():
        pytest.skip("the numbers of every system call are not at hand")
    found = re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    program = [(0x20, 0, 0, 0)]
    for number in (int(number) for name, number in found if name in allowed):
        program += [(0x15, 0, 1, number), (0x06, 0, 0, seccomp.ALLOW)]
    program.append((0x06, 0, 0, REFUSED))
    (tmp_path / "filter").write_bytes(b"".join(struct.pack("=HBBI", *step) for step in program))
    ran = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path / "filter")], check=False, timeout=60,
        capture_output=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr.decode()
    assert all(not m["missing"] for m in json.loads(ran.stdout)["ok"]["sandbox"][:-1])


def test_the_unit_closes_ways_into_the_kernel_for_the_daemon_itself(allowed: set[str]) -> None:
    assert {"read", "futex", "socket", "execve", "seccomp", "landlock_restrict_self"} <= allowed
    assert not allowed & {
        "io_uring_setup", "userfaultfd", "keyctl", "add_key", "request_key", "bpf", "ptrace",
        "mount", "perf_event_open", "init_module", "kexec_load", "reboot",
    }  # fmt: skip
