from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edgeq.intake import landlock
from tests.intake.confined import play


def _landlock_alone(**actions: str) -> tuple[int, dict[str, Any]]:
    body = ", ".join(f"{name!r}: lambda: {code}" for name, code in actions.items())
    version, *_ = play("""
        libc.prctl(38, 1, 0, 0, 0)
        print(json.dumps(landlock.restrict(libc)))
    """)
    if not version:
        pytest.skip("this kernel has no Landlock")
    return version, play(f"""
        def bind():
            with socket.socket() as s: s.connect(("127.0.0.1", 9))
        def walls():
            libc.prctl(38, 1, 0, 0, 0)
            landlock.restrict(libc)
        each({{{body}}}, walls)
    """)


def test_landlock_alone_forbids_files_programs_and_connections(tmp_path: Path) -> None:
    version, found = _landlock_alone(
        read="open('/etc/passwd')",
        folder="os.listdir('/etc')",
        write=f"open({os.fspath(tmp_path / 'new')!r}, 'w')",
        make=f"os.mkdir({os.fspath(tmp_path / 'new')!r})",
        run="os.execv('/bin/true', ['true'])",
        connect="bind()",
        signal="os.kill(os.getppid(), 0)",
    )
    assert [found.pop(k) for k in ("read", "folder", "write", "make", "run")] == [errno.EACCES] * 5
    assert found["connect"] == (errno.EACCES if version >= 4 else errno.ECONNREFUSED)
    assert found["signal"] == (errno.EPERM if version >= 6 else "done")
    assert list(tmp_path.iterdir()) == []


def test_landlock_is_not_claimed_where_a_thread_would_escape_it() -> None:
    version, missing = play("""
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        libc.prctl(38, 1, 0, 0, 0)
        found = landlock.restrict(libc)
        stop.set(); thread.join()
        print(json.dumps(found))
    """)
    assert version == 0
    assert missing


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSYS, "Linux 5.13"),
        (errno.EOPNOTSUPP, "lsm="),
        (errno.EPERM, "container"),
        (errno.EINVAL, "Invalid argument"),
    ],
)
def test_a_kernel_without_landlock_is_told_with_its_reason(code: int, reason: str) -> None:
    class Libc(ctypes.CDLL):
        def __init__(self) -> None:
            self.syscall = self._refuse

        def _refuse(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    version, missing = landlock.restrict(Libc())
    assert version == 0
    assert reason in missing


class _Kernel(ctypes.CDLL):
    """A kernel of some version, which notes what it is asked to forbid."""

    def __init__(self, version: int, *, refuses: str = "") -> None:
        self.version, self.refuses = version, refuses
        self.rules: tuple[int, int, int, int] = (0, 0, 0, 0)
        self.syscall = self._answer

    def _answer(self, number: ctypes.c_long, rules: Any, *rest: Any) -> int:
        name = {444: "create", 446: "restrict"}[number.value]
        if name == "create" and rules is None:
            return self.version
        if name == self.refuses:
            ctypes.set_errno(errno.E2BIG)
            return -1
        if name == "restrict":
            return 0
        asked = rules._obj
        size = rest[0].value
        self.rules = (asked.handled_access_fs, asked.handled_access_net, asked.scoped, size)
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of one thread; the tests' own may have more."""
    monkeypatch.setattr(landlock, "_threads", lambda: 1)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("version", "rules"),
    [
        (1, (0x1FFF, 0, 0, 8)),
        (2, (0x3FFF, 0, 0, 8)),
        (3, (0x7FFF, 0, 0, 8)),
        (4, (0x7FFF, 3, 0, 16)),
        (5, (0xFFFF, 3, 0, 16)),
        (6, (0xFFFF, 3, 3, 24)),
        (99, (0xFFFF, 3, 3, 24)),
    ],
)
def test_each_version_is_asked_for_all_that_it_can_forbid(
    version: int, rules: tuple[int, int, int, int]
) -> None:
    kernel = _Kernel(version)
    assert landlock.restrict(kernel) == (version, "")
    assert kernel.rules == rules


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("refuses", ["create", "restrict"])
def test_rules_that_the_kernel_refuses_are_not_in_force(refuses: str) -> None:
    version, missing = landlock.restrict(_Kernel(7, refuses=refuses))
    assert version == 0
    assert "refuses the rules" in missing
