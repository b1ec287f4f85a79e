"""This process -> one for which the kernel opens no file and reaches nobody: Landlock.

A second wall behind the filter of system calls: it judges paths and peers, whatever call or hole in
the filter leads there. Linux 5.13 or later (JetPack 6, where the kernel was built with it).
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_VERSION_FLAG = 1
# landlock.h: the rights over files and folders that each version of the interface has learned:
# 13 from executing and reading to making a symlink, then refer, truncate and ioctl.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP_BIND_AND_CONNECT = 0b11  # from version 4
_SIGNALS_AND_ABSTRACT_SOCKETS = 0b11  # from version 6
_LACKS = {
    errno.ENOSYS: "the kernel has none: it came with Linux 5.13",
    errno.EOPNOTSUPP: "the kernel was started without it: `lsm=` must name landlock",
    errno.EPERM: "whoever started edgeq forbids the call: a container or a service manager",
}


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def restrict(libc: ctypes.CDLL) -> tuple[int, str]:
    """Forbid all that it can name, without one exception; return its version, or 0 and why not.

    It binds the calling thread alone: a process that has others is left as it is. no_new_privs
    must be set already.
    """
    version = libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), _VERSION_FLAG)
    if version < 1:
        code = ctypes.get_errno()
        return 0, _LACKS.get(code, f"the kernel refuses it: {os.strerror(code)}")
    if (threads := _threads()) > 1:
        return 0, f"it would bind one of {threads} threads"
    if not _restrict(libc, version):
        return 0, f"the kernel refuses the rules: {os.strerror(ctypes.get_errno())}"
    return version, ""


def _threads() -> int:
    try:
        return len(os.listdir(Path("/proc/self/task")))
    except OSError:  # /proc is not mounted: nothing speaks for a second one
        return 1


def _restrict(libc: ctypes.CDLL, version: int) -> bool:
    rules = _Ruleset(
        sum(rights for since, rights in _FILE_RIGHTS.items() if version >= since),
        _TCP_BIND_AND_CONNECT if version >= 4 else 0,
        _SIGNALS_AND_ABSTRACT_SOCKETS if version >= 6 else 0,
    )
    size = ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24)
    ruleset = libc.syscall(ctypes.c_long(_CREATE_RULESET), ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ruleset, 0) == 0)
    finally:
        os.close(ruleset)
