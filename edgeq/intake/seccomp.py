"""This process -> one for which the kernel does little but memory, time and its end.

A list of what is allowed, not of what is forbidden. Once the runtime is warm, loading and running a
model takes next to nothing: over eleven real models, CPython 3.10 to 3.13 with ai-edge-litert 2.3,
and 3.10 with tflite-runtime 2.14, made nine different calls (brk, mmap, munmap, futex, write,
pread64, close, rt_sigaction, exit_group), and 703 models, half of them damaged, had the same answer
with the filter and without. The rest of ALLOWED is what other C libraries and kernels without a
vDSO take for the same. So the list is short, a call that Linux will learn one day is refused before
anyone has heard of it, and no file can be opened, not even where there is no Landlock.

What is not on the list fails with ENOSYS, as on a kernel that lacks it: the C library and the
runtime have an answer to that, and an update of theirs that tries something new goes on. Opening
fails with EACCES and starting a thread with EAGAIN, for the same reason. The calls of HOSTILE have
no innocent use while a model is loaded: the first one ends the process, so that who has broken into
the runtime gets no second try, and the reason (SIGSYS) can be told from a crash.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

from edgeq.intake.syscalls import FIRST_X32_NUMBER, Architecture, architecture

ALLOWED = (
    # memory; mmap and mprotect as far as GUARDED goes
    "brk", "munmap", "mremap", "madvise",
    # what is open already: the two outputs are written to by a rule of GUARDED
    "read", "pread64", "close",
    # locks and time, which do not always stay in user space
    "futex", "sched_yield", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep",
    "gettimeofday", "time", "restart_syscall",
    # questions about itself and the box
    "getpid", "gettid", "getcpu", "getrandom", "getrlimit", "getrusage", "sched_getaffinity",
    "sysinfo", "uname",
    # its own signals and its end
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "rseq", "set_robust_list",
    "exit", "exit_group",
)  # fmt: skip
HOSTILE = (
    # programs and other processes
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
    "process_mrelease", "kcmp", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
    # the network
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg",
    "sendmmsg", "recvfrom", "recvmsg",
    # parts of the kernel that are known as ways in
    "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "bpf",
    "perf_event_open", "fanotify_init", "add_key", "request_key", "keyctl", "modify_ldt", "iopl",
    "ioperm", "personality", "open_by_handle_at", "name_to_handle_at",
    # the box itself
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsmount",
    "fspick", "fsconfig", "mount_setattr", "unshare", "setns", "init_module", "finit_module",
    "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct",
    "quotactl", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex",
    # privileges
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid",
    "setfsgid", "capset",
)  # fmt: skip
OPENING = ("open", "openat", "openat2", "creat")
STARTING = ("clone", "fork", "vfork")  # clone3 is missing: the C library then takes clone

# linux/seccomp.h
ALLOW, KILL, _FAIL = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2  # prctl.h
_SECCOMP_NUMBERS = {"x86_64": 317, "aarch64": 277}

# linux/bpf_common.h; the data are seccomp_data: number, architecture, instruction, six arguments
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_INSTRUCTION = struct.Struct("=HBBI")

_PROT_EXEC, _MAP_ANONYMOUS = 4, 0x20  # sys/mman.h: the same on both machines
_OUTPUTS = (1, 2)

Block = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, operand


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict(libc: ctypes.CDLL) -> str:
    """Filter the calls of every thread for good; return '' or why that is not in force.

    no_new_privs must be set already.
    """
    machine = platform.machine()
    known = architecture(machine)
    if known is None or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return f"edgeq has no list of system calls for {machine}"
    instructions = assemble(known, os.getpid())
    program = _Program(len(instructions) // _INSTRUCTION.size, instructions)
    number = ctypes.c_long(_SECCOMP_NUMBERS[machine])
    failed = libc.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program))
    if failed < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):  # before Linux 3.17
        failed = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
    if failed == 0:
        return ""
    reason = os.strerror(ctypes.get_errno()) if failed < 0 else f"thread {failed} cannot follow"
    return f"the kernel refuses the filter: {reason}"


def assemble(known: Architecture, pid: int) -> bytes:
    """Return the filter of process `pid`: classic BPF over seccomp_data, one verdict to each call.

    Every block ends in a verdict, so that none falls through into the next.
    """
    program: Block = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        *_unless(known.audit, [_verdict(KILL)]),  # 32-bit programs' calls have other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, FIRST_X32_NUMBER),
        _verdict(KILL),
    ]
    for names, verdict in (
        (ALLOWED, ALLOW),
        (OPENING, fail(errno.EACCES)),
        (STARTING, fail(errno.EAGAIN)),
        (HOSTILE, KILL),
    ):
        for name in _present(known, names):
            program += _when(known.numbers[name], [_verdict(verdict)])
    for name, block in _guarded(pid).items():
        program += _when(known.numbers[name], block)
    program.append(_verdict(fail(errno.ENOSYS)))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def fail(number: int) -> int:
    """Return the verdict by which a call fails with an errno."""
    return _FAIL | number


def _present(known: Architecture, names: Iterable[str]) -> list[str]:
    return [name for name in names if name in known.numbers]


def _guarded(pid: int) -> dict[str, Block]:
    """Calls that depend on their arguments; the kernel, too, takes these as 32 bits at most."""
    own_signal = [*_argument(0), *_unless(pid, [_verdict(KILL)]), _verdict(ALLOW)]
    output = [*_argument(0), *_any_of(_OUTPUTS), _verdict(fail(errno.EBADF))]
    return {
        "write": output,
        "writev": output,
        # New memory only, and none that can be executed: what is injected stays data.
        "mmap": [
            *_refuse_bits(2, _PROT_EXEC),
            *_argument(3),
            (_IF_ANY_BIT, 0, 1, _MAP_ANONYMOUS),
            _verdict(ALLOW),
            _verdict(fail(errno.EACCES)),
        ],
        "mprotect": [*_refuse_bits(2, _PROT_EXEC), _verdict(ALLOW)],
        "tgkill": own_signal,  # abort()
        "prlimit64": _reading_own_limits(),
    }


def _reading_own_limits() -> Block:
    """Allow prlimit64(0, ..., NULL, ...), which is getrlimit."""
    refusal = [_verdict(fail(errno.EPERM))]
    words = [*_argument(0), *_unless(0, refusal)]
    for high in (False, True):
        words += [*_argument(2, high=high), *_unless(0, refusal)]
    return [*words, _verdict(ALLOW)]


def _argument(position: int, *, high: bool = False) -> Block:
    return [(_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * position + 4 * high)]


def _refuse_bits(position: int, bits: int) -> Block:
    return [*_argument(position), (_IF_ANY_BIT, 0, 1, bits), _verdict(fail(errno.EACCES))]


def _any_of(values: Iterable[int]) -> Block:
    return [step for value in values for step in _when(value, [_verdict(ALLOW)])]


def _when(value: int, block: Block) -> Block:
    return [(_IF_EQUAL, 0, len(block), value), *block]


def _unless(value: int, block: Block) -> Block:
    return [(_IF_EQUAL, len(block), 0, value), *block]


def _verdict(action: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, action)
