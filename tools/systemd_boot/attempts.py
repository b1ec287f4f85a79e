"""What a program in edgeq's place tries -> 'allowed', or how it was refused; a JSON line each."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
SYSCALLS = {"x86_64": {"bpf": 321, "ptrace": 101}, "aarch64": {"bpf": 280, "ptrace": 117}}


def write(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")


def checked(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), "")


def system_call(name: str, *arguments: int) -> None:
    number = SYSCALLS[os.uname().machine][name]
    checked(LIBC.syscall(number, *arguments))


def open_socket(family: int) -> None:
    socket.socket(family, socket.SOCK_DGRAM).close()


def make_setuid() -> None:
    path = Path(os.environ["STATE_DIRECTORY"]) / "attempt"
    path.touch()
    try:
        os.chmod(path, 0o4755)
    finally:
        path.unlink()


def write_state() -> None:
    path = Path(os.environ["STATE_DIRECTORY"]) / "attempt"
    path.write_text("x")
    path.unlink()


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write /etc": lambda: write("/etc/passwd"),
    "write /usr": lambda: write("/usr/bin/attempt"),
    "write /opt": lambda: write("/opt/edgeq/source/edgeq/__init__.py"),
    "list /root": lambda: os.listdir("/root"),
    "open /dev/mem": lambda: os.close(os.open("/dev/mem", os.O_RDONLY)),
    "open /dev/kmsg": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
    "read another's process": lambda: Path("/proc/1/status").read_text(),
    "write the kernel's settings": lambda: write("/proc/sys/kernel/hostname"),
    "netlink socket": lambda: open_socket(socket.AF_NETLINK),
    "packet socket": lambda: open_socket(socket.AF_PACKET),
    "mount": lambda: checked(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "new user namespace": lambda: checked(LIBC.unshare(CLONE_NEWUSER)),
    "bpf": lambda: system_call("bpf", 0, 0, 0),
    "ptrace": lambda: system_call("ptrace", 16, os.getppid(), 0, 0),
    "become root": lambda: os.setuid(0),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "set the host's name": lambda: socket.sethostname("attempt"),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "another personality": lambda: checked(LIBC.personality(0x0400000)),
    "set-user-id file": make_setuid,
    "writable code": lambda: mmap.mmap(-1, 4096, prot=7).close(),
    "may write its state": write_state,
    "may open an IPv4 socket": lambda: open_socket(socket.AF_INET),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "allowed"


if __name__ == "__main__":
    for name, attempt in ATTEMPTS.items():
        print(json.dumps([name, outcome(attempt)]), flush=True)
