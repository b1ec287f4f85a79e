from __future__ import annotations

import ctypes
import errno
import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edgeq.intake import sandbox
from edgeq.intake.sandbox import NEEDED, PURPOSES, Measure, lacks
from edgeq.intake.syscalls import AUDIT_ARCHITECTURES
from tests.intake.confined import PRELUDE, play

needs_a_filter = pytest.mark.skipif(
    platform.machine() not in AUDIT_ARCHITECTURES, reason="no list of system calls for this machine"
)


def test_memory_cpu_files_and_dumps_are_limited() -> None:
    limits = play("""
        names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
        confine()
        limits = [resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names]
        print(json.dumps(dict(zip(names, limits))))
    """)
    assert limits["AS"] == [2 << 30, 2 << 30]
    assert limits["CPU"] == [5, 6]
    assert limits["FSIZE"] == [1 << 20, 1 << 20]
    assert limits["CORE"] == limits["NPROC"] == [0, 0]


def test_a_limit_that_is_lower_already_stays() -> None:
    found = play("""
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 30))
        confine()
        print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
    """)
    assert found == [30, 30]


def test_too_much_memory_is_an_error_of_the_child() -> None:
    code = "confine(); print(json.dumps(attempt(lambda: bytearray(3 << 30))))"
    assert play(code) == "MemoryError"


def test_the_kernel_says_that_the_measures_are_in_force() -> None:
    status, score = play("""
        status, score = open("/proc/self/status"), open("/proc/self/oom_score_adj")
        confine()
        print(json.dumps([os.pread(file.fileno(), 8192, 0).decode() for file in (status, score)]))
    """)
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert score.strip() == "1000"


def test_each_measure_is_answered_for() -> None:
    found = play("print(json.dumps([[m.name, m.missing, str(m)] for m in confine()]))")
    assert [name for name, *_ in found] == list(PURPOSES)
    lacking = [name for name, missing, _ in found if missing]
    assert set(lacking) <= {"landlock", "dies-first"}
    if "landlock" not in lacking:
        assert found[-1][2].startswith("landlock-")


@needs_a_filter
def test_a_hostile_call_ends_the_process() -> None:
    found = play("""
        numbers = syscalls.architecture(platform.machine()).numbers
        names = [name for name in seccomp.HOSTILE if name in numbers]
        each({name: lambda n=numbers[name]: call(n, -1, -1, -1, -1, -1, -1) for name in names})
    """)
    assert len(found) > 60
    assert found == dict.fromkeys(found, "SIGSYS")


@needs_a_filter
def test_no_file_is_opened_changed_or_looked_for(tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(b"another model")
    found = play(f"""
        other, folder = {os.fspath(other)!r}, {os.fspath(tmp_path)!r}
        descriptor = os.open(folder, os.O_RDONLY)
        beside = os.open("/dev/null", os.O_WRONLY)
        each({{
            "read /etc/passwd": lambda: open("/etc/passwd").read(),
            "read another model": lambda: open(other).read(),
            "read by its folder": lambda: os.open(b"other.tflite", 0, dir_fd=descriptor),
            "read the parent's memory": lambda: open(f"/proc/{{os.getppid()}}/mem", "rb"),
            "write": lambda: open(folder + "/new", "w"),
            "write over": lambda: open(other, "r+"),
            "write to a file that is open": lambda: os.write(beside, b"x"),
            "list": lambda: os.listdir(folder),
            "ask for": lambda: os.stat(other),
            "make a folder": lambda: os.mkdir(folder + "/new"),
            "make a link": lambda: os.symlink(other, folder + "/new"),
            "rename": lambda: os.rename(other, folder + "/new"),
            "remove": lambda: os.unlink(other),
            "cut": lambda: os.truncate(other, 0),
            "change rights": lambda: os.chmod(other, 0o777),
            "make a memory file": lambda: os.memfd_create("new"),
            "load a library": lambda: ctypes.CDLL("libresolv.so.2"),
        }})
    """)
    absent, closed = errno.ENOSYS, errno.EACCES
    assert found == {
        "read /etc/passwd": closed,
        "read another model": closed,
        "read by its folder": closed,
        "read the parent's memory": closed,
        "write": closed,
        "write over": closed,
        "write to a file that is open": errno.EBADF,
        "list": closed,
        "ask for": absent,
        "make a folder": absent,
        "make a link": absent,
        "rename": absent,
        "remove": absent,
        "cut": absent,
        "change rights": absent,
        "make a memory file": absent,
        "load a library": None,  # the loader's own error, without a number
    }
    assert other.read_bytes() == b"another model"
    assert list(tmp_path.iterdir()) == [other]


@needs_a_filter
def test_nothing_is_started_reached_or_signalled() -> None:
    found = play("""
        each({
            "fork": os.fork,
            "thread": threading.Thread(target=print).start,
            "exec": lambda: os.execv("/bin/true", ["true"]),
            "socket": socket.socket,
            "unix socket": lambda: socket.socket(socket.AF_UNIX),
            "signal the parent": lambda: os.kill(os.getppid(), 0),
            "signal its group": lambda: os.killpg(0, 0),
            "trace": lambda: libc.ptrace(16, os.getppid(), 0, 0),
            "abort": os.abort,
            "more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)),
        })
    """)
    assert found == {
        "fork": errno.EAGAIN,
        "thread": "RuntimeError",
        "exec": "SIGSYS",
        "socket": "SIGSYS",
        "unix socket": "SIGSYS",
        "signal the parent": "SIGSYS",
        "signal its group": "SIGSYS",
        "trace": "SIGSYS",
        "abort": "SIGABRT",
        "more memory": "ValueError",  # what Python makes of EPERM
    }


@needs_a_filter
def test_data_never_becomes_code() -> None:
    found = play("""
        page = mmap.mmap(-1, 4096)
        where = ctypes.addressof(ctypes.c_char.from_buffer(page))
        def protect(protection):
            if libc.mprotect(ctypes.c_void_p(where), ctypes.c_size_t(4096), protection):
                raise OSError(ctypes.get_errno(), "")
        each({
            "new": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
            "made so": lambda: protect(mmap.PROT_READ | mmap.PROT_EXEC),
            "read only": lambda: protect(mmap.PROT_READ),
        })
    """)
    assert found == {"new": errno.EACCES, "made so": errno.EACCES, "read only": "done"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 alone has these ways in")
def test_the_other_interfaces_of_x86_64_end_the_process() -> None:
    found = play("""
        code = bytes.fromhex("b814000000" "cd80" "c3")  # mov eax, 20 (getpid); int 0x80; ret
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        enter = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        each({"32-bit": enter, "x32": lambda: call(syscalls.FIRST_X32_NUMBER | 39)})
    """)
    assert found == {"32-bit": "SIGSYS", "x32": "SIGSYS"}


@needs_a_filter
def test_the_filter_binds_threads_that_run_already() -> None:
    found = play("""
        ready, tried, said = threading.Event(), threading.Event(), []
        def wait():
            ready.wait()
            said.append(attempt(lambda: open("/etc/passwd")))
            tried.set()
        threading.Thread(target=wait, daemon=True).start()
        sandbox.confine()
        ready.set(); tried.wait()
        print(json.dumps(said))
    """)
    assert found == [errno.EACCES]


@needs_a_filter
def test_on_an_old_kernel_files_stay_closed_by_the_filter_alone() -> None:
    """JetPack 5 (5.10) has seccomp and no Landlock."""
    found = play("""
        landlock.restrict = lambda libc: (0, "the kernel has none")
        each({"read": lambda: open("/etc/passwd"), "lacks": lambda: sys.exit("none")})
    """)
    assert found["read"] == errno.EACCES


def test_what_is_needed_is_named_where_it_lacks() -> None:
    complete = [Measure(name) for name in PURPOSES]
    assert lacks(complete) == []
    assert lacks([*complete[:-1], Measure("landlock", "the kernel has none")]) == []
    without = [Measure(m.name, "no list") if m.name == "seccomp" else m for m in complete]
    assert lacks(without) == ["seccomp is not in force (no list)"]
    assert len(lacks([])) == len(NEEDED)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_confined_alike() -> None:
    found = play("""
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        lacking = []
        def confine_and_note():
            lacking.extend(sandbox.lacks(confine()))
        each({
            "fork": os.fork,
            "read": lambda: open("/etc/passwd"),
            "lacking": lambda: 1 / 0 if lacking else None,
        }, confine_and_note)
    """)
    assert found == {"fork": errno.EAGAIN, "read": errno.EACCES, "lacking": "done"}


def test_the_limit_on_processes_holds_without_a_filter() -> None:
    found = play("""
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        each({"fork": os.fork}, lambda: sandbox.limit(2 << 30, 5))
    """)
    assert found == {"fork": errno.EAGAIN}


def test_the_child_dies_with_its_parent() -> None:
    code = PRELUDE + textwrap.dedent("""
        ready, out = os.pipe()
        parent = os.fork()
        if parent == 0:
            child = os.fork()
            if child == 0:
                confine()
                os.write(1, b"%d\\n" % os.getpid())
                while True:
                    pass
            signal.pause()
        os.close(out)
        with os.fdopen(0) as stdin:
            stdin.readline()
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        child = int(process.stdout.readline())
        assert _is_running(child)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b""  # ends only when the child has let go of it
        assert process.wait(20) == 0
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state not in "ZX"


def test_a_child_whose_parent_has_ended_ends_itself() -> None:
    found = play("""
        print(json.dumps(attempt(lambda: sandbox.confine(parent=os.getppid() + 1))))
    """)
    assert found == "SystemExit"
    assert play("sandbox.confine(os.getppid()); print(json.dumps('stays'))") == "stays"


class _Refusing(ctypes.CDLL):
    """A kernel that refuses everything."""

    def __init__(self, *_: object, **__: object) -> None:
        self.prctl = self.syscall = self._refuse

    def _refuse(self, *_: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1


def test_a_kernel_that_refuses_everything_is_said_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox.ctypes, "CDLL", _Refusing)
    monkeypatch.setattr(sandbox, "OOM_SCORE", Path("/nowhere/oom_score_adj"))
    measures = sandbox.confine(os.getppid())
    assert [m.name for m in measures if m.is_in_force] == ["rlimits"]
    assert len(lacks(measures)) == 3
    refused = "not in force (the kernel refuses it: Operation not permitted), so nothing says that"
    assert measures[3].meaning.startswith(refused)
    assert "security.public_keys" in sandbox.hint(measures)
