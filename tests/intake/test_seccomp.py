from __future__ import annotations

import ctypes
import errno
import platform
import re
from pathlib import Path

import pytest

from edgeq.intake import seccomp
from edgeq.intake.seccomp import ALLOW, ALLOWED, HOSTILE, KILL, OPENING, STARTING, assemble, fail
from edgeq.intake.syscalls import AUDIT_ARCHITECTURES, FIRST_X32_NUMBER, Architecture, architecture
from tests.intake.bpf import INSTRUCTION, verdict

PID = 4711
GUARDED = ("write", "writev", "mmap", "mprotect", "tgkill", "prlimit64")
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}

MACHINES = pytest.mark.parametrize("machine", AUDIT_ARCHITECTURES)


def _known(machine: str) -> Architecture:
    known = architecture(machine)
    assert known is not None
    return known


def _judge(machine: str, name: str, *arguments: int) -> int:
    known = _known(machine)
    return verdict(assemble(known, PID), known.audit, known.numbers[name], arguments)


@MACHINES
def test_every_call_has_the_verdict_of_its_list(machine: str) -> None:
    numbers = _known(machine).numbers
    for names, expected in (
        (ALLOWED, ALLOW),
        (HOSTILE, KILL),
        (OPENING, fail(errno.EACCES)),
        (STARTING, fail(errno.EAGAIN)),
    ):
        present = [name for name in names if name in numbers]
        assert present
        assert {name: _judge(machine, name) for name in present} == dict.fromkeys(present, expected)


@MACHINES
def test_a_call_on_no_list_is_one_that_the_kernel_lacks(machine: str) -> None:
    known = _known(machine)
    program = assemble(known, PID)
    listed = {known.numbers[n] for n in (*ALLOWED, *HOSTILE, *OPENING, *STARTING, *GUARDED)
              if n in known.numbers}  # fmt: skip
    others = set(range(1000)) - listed
    assert known.numbers["clone3"] in others
    assert {verdict(program, known.audit, number) for number in others} == {fail(errno.ENOSYS)}


@MACHINES
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    known = _known(machine)
    program = assemble(known, PID)
    others = {0x40000003, 0x40000028, *AUDIT_ARCHITECTURES.values()} - {known.audit}
    for audit in others:  # 32-bit x86, 32-bit ARM, and each other
        assert verdict(program, audit, known.numbers["read"]) == KILL


def test_calls_of_x32_end_the_process() -> None:
    known = _known("x86_64")
    program = assemble(known, PID)
    for number in (0, 39, 519, 0x3FFF_FFFF):
        assert verdict(program, known.audit, FIRST_X32_NUMBER | number) == KILL


@MACHINES
def test_only_the_two_outputs_are_written_to(machine: str) -> None:
    for name in ("write", "writev"):
        found = {file: _judge(machine, name, file) for file in (0, 1, 2, 3, 1 << 31, 0xFFFF_FFFF)}
        allowed = [file for file, action in found.items() if action == ALLOW]
        assert allowed == [1, 2]
        assert found[3] == fail(errno.EBADF)


@MACHINES
def test_memory_is_new_and_never_executable(machine: str) -> None:
    private, anonymous, fixed = 0x02, 0x20, 0x10
    read_write, execute = 0b011, 0b100
    refused = fail(errno.EACCES)
    for flags, protection, expected in (
        (private | anonymous, read_write, ALLOW),
        (private | anonymous | fixed, 0, ALLOW),
        (private, read_write, refused),  # a file
        (private | anonymous, execute, refused),
        (private | anonymous, read_write | execute, refused),
        (private | anonymous, read_write | execute | 1 << 32, refused),
    ):
        assert _judge(machine, "mmap", 0, 4096, protection, flags, -1) == expected
    assert _judge(machine, "mprotect", 0, 4096, read_write) == ALLOW
    assert _judge(machine, "mprotect", 0, 4096, execute | 1) == refused


@MACHINES
def test_signals_reach_the_process_alone(machine: str) -> None:
    assert _judge(machine, "tgkill", PID, PID, 6) == ALLOW
    assert _judge(machine, "tgkill", PID - 1, PID - 1, 9) == KILL


@MACHINES
def test_limits_are_read_and_not_set(machine: str) -> None:
    assert _judge(machine, "prlimit64", 0, 7, 0, 0x7FFF_0000) == ALLOW
    for pid, new in ((0, 1), (0, 1 << 32), (PID, 0), (1, 0)):
        assert _judge(machine, "prlimit64", pid, 7, new) == fail(errno.EPERM)


@MACHINES
def test_every_jump_leads_to_a_verdict(machine: str) -> None:
    instructions = list(INSTRUCTION.iter_unpack(assemble(_known(machine), PID)))
    assert len(instructions) < MOST_INSTRUCTIONS
    assert instructions[-1][0] == 0x06
    for place, (code, if_true, if_false, _) in enumerate(instructions[:-1]):
        if code in (0x15, 0x35, 0x45):
            assert place + 1 + max(if_true, if_false) < len(instructions)


@MACHINES
def test_no_call_is_on_two_lists(machine: str) -> None:
    names = [*ALLOWED, *HOSTILE, *OPENING, *STARTING, *GUARDED]
    assert len(names) == len(set(names))
    numbers = _known(machine).numbers
    assert len(set(numbers.values())) == len(numbers)
    assert set(names) <= set(_known("x86_64").numbers)


@MACHINES
def test_the_numbers_are_those_of_the_kernel_s_headers(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    numbers = _known(machine).numbers
    known = {name: number for name, number in numbers.items() if name in defined}
    assert known == {name: int(defined[name]) for name in known}
    assert set(numbers) - set(known) <= {"fork", "vfork", "open", "creat", "time"}


def test_another_machine_is_said_to_have_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" in seccomp.restrict(_Libc())


def test_a_32_bit_program_is_said_to_have_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.sys, "maxsize", (1 << 31) - 1)
    assert "no list of system calls" in seccomp.restrict(_Libc())


class _Libc(ctypes.CDLL):
    """A kernel of the test's own: what seccomp(2) and prctl(2) answer."""

    def __init__(self, seccomp: tuple[int, int] = (0, 0), prctl: tuple[int, int] = (0, 0)) -> None:
        self.asked: list[str] = []
        self.syscall = lambda *_: self._answer("seccomp", *seccomp)
        self.prctl = lambda *_: self._answer("prctl", *prctl)

    def _answer(self, name: str, result: int, code: int) -> int:
        self.asked.append(name)
        ctypes.set_errno(code)
        return result


def test_a_kernel_before_the_call_is_asked_by_prctl() -> None:
    libc = _Libc(seccomp=(-1, errno.ENOSYS))
    assert seccomp.restrict(libc) == ""
    assert libc.asked == ["seccomp", "prctl"]


def test_a_kernel_without_filters_is_said_to_refuse() -> None:
    libc = _Libc(seccomp=(-1, errno.ENOSYS), prctl=(-1, errno.EINVAL))
    assert seccomp.restrict(libc) == "the kernel refuses the filter: Invalid argument"
    forbidden = _Libc(seccomp=(-1, errno.EPERM))
    assert "not permitted" in seccomp.restrict(forbidden)
    assert forbidden.asked == ["seccomp"]


def test_a_thread_that_cannot_follow_is_named() -> None:
    assert "thread 99" in seccomp.restrict(_Libc(seccomp=(99, 0)))
