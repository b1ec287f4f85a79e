"""This process -> one that can do little but compute: for a child that opens untrusted models.

Each measure is taken where the system has it; the answer names those in force. Landlock needs
Linux 5.13, its network rules 6.7: JetPack 5 (5.10) has neither.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

OUTPUT_BYTES = 1 << 20  # the most that the child may write into any one file, its answer included
OPEN_FILES = 64
CPU_GRACE_S = 1  # from SIGXCPU to SIGKILL

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # prctl.h
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every architecture
_LANDLOCK_VERSION_FLAG = 1
# landlock.h: what each ABI version can forbid; reading files and folders stays allowed.
_EXECUTE_WRITE_MAKE_REMOVE = 0b1_1111_1111_0011
_FILE_RIGHTS = {1: _EXECUTE_WRITE_MAKE_REMOVE, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP_BIND_AND_CONNECT = 0b11  # from version 4
_SIGNALS_AND_ABSTRACT_SOCKETS = 0b11  # from version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def confine(memory_bytes: int, cpu_s: int) -> tuple[str, ...]:
    """Confine this process for good, and return the measures in force."""
    limit(memory_bytes, cpu_s)
    libc = ctypes.CDLL(None, use_errno=True)
    measures = ["rlimits"]
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
        measures.append("dies-with-parent")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        measures.append("no-new-privileges")
        version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG)
        if version >= 1 and _restrict(libc, version):
            measures.append(f"landlock-{version}")
    return tuple(measures)


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Lower this process's resource limits; none is ever raised."""
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + CPU_GRACE_S),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES, OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NPROC, 0, 0),  # no further process or thread; root is exempt
    ):
        present = resource.getrlimit(kind)[1]
        ceiling = hard if present == resource.RLIM_INFINITY else min(hard, present)
        resource.setrlimit(kind, (min(soft, ceiling), ceiling))


def _restrict(libc: ctypes.CDLL, version: int) -> bool:
    """Forbid, by a ruleset without one exception, all it can name but reading."""
    rules = _Ruleset(
        sum(rights for since, rights in _FILE_RIGHTS.items() if version >= since),
        _TCP_BIND_AND_CONNECT if version >= 4 else 0,
        _SIGNALS_AND_ABSTRACT_SOCKETS if version >= 6 else 0,
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
