"""This process -> one that can do little but compute: for a child that opens untrusted models.

Each measure is taken where the system has it, and the answer says of each whether it is in force.
What the child needs must be there before: once confined, it opens no file and loads no library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeq.intake import landlock, seccomp

OUTPUT_BYTES = 1 << 20  # the most that the child may write into any one file, its answer included
OPEN_FILES = 64
CPU_GRACE_S = 1  # from SIGXCPU to SIGKILL
OOM_SCORE = Path("/proc/self/oom_score_adj")
MOST_WILLING_TO_DIE = 1000  # anyone may raise their own

# What holds where a measure is in force, in the order of `confine`.
PURPOSES = {
    "rlimits": "a model that eats memory or time costs a child, not the box",
    "dies-first": "where the box runs out of memory, the child is ended and not the daemon",
    "dies-with-parent": "a child never outlives the daemon",
    "no-new-privileges": "no program that it starts has more rights than it has",
    "seccomp": "who breaks into the runtime opens no file, socket, process or thread",
    "landlock": "no file is read, written or run, even where the filter has a hole",
}
# Without one of these, the others do not hold a hostile model. Landlock is a wall behind a wall.
NEEDED = ("rlimits", "dies-with-parent", "no-new-privileges", "seccomp")

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # prctl.h
_NONE = ctypes.c_ulong(0)  # prctl wants its unused arguments to be 0, all 64 bits of them


@dataclass(frozen=True)
class Measure:
    """One of the measures, and how it is on this box."""

    name: str
    missing: str = ""  # why it is not in force
    version: int = 0  # of the kernel's interface, where there are several

    @property
    def is_in_force(self) -> bool:
        """True where the process is bound by it."""
        return not self.missing

    @property
    def meaning(self) -> str:
        """What holds by it; where it is not in force, why, and what does not hold therefore."""
        purpose = PURPOSES[self.name]
        if self.is_in_force:
            return purpose
        return f"not in force ({self.missing}), so nothing says that {purpose}"

    def __str__(self) -> str:
        return f"{self.name}-{self.version}" if self.version else self.name


def lacks(measures: Iterable[Measure]) -> list[str]:
    """Return why a process so bound may not open a hostile model; [] where it may."""
    missing = {measure.name: measure.missing for measure in measures}
    reasons = {name: missing.get(name, "nothing is known of it") for name in NEEDED}
    return [f"{name} is not in force ({reason})" for name, reason in reasons.items() if reason]


def hint(measures: Iterable[Measure]) -> str:
    """Return what to do where one of the measures is not in force."""
    if lacks(measures):
        return "Take signed drops only (security.public_keys), or set security.sandbox to required."
    return "Nothing need be done: the other measures are enough."


def confine(parent: int | None = None) -> tuple[Measure, ...]:
    """Confine this process for good, after `limit`; return the measures, in force or not.

    Raises:
        SystemExit: `parent`, the process that started this one, has ended already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    dies_first = Measure("dies-first", _die_first())
    follows = libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), _NONE, _NONE, _NONE)
    dies_with_parent = Measure("dies-with-parent", _why(follows))
    if parent is not None and os.getppid() != parent:  # it ended while we were being loaded
        sys.exit(f"process {parent} has ended; nobody waits for the answer")
    modest = _why(libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), _NONE, _NONE, _NONE))
    # Landlock first: its calls are not on the filter's list.
    version, no_landlock = (0, modest) if modest else landlock.restrict(libc)
    return (
        Measure("rlimits"),
        dies_first,
        dies_with_parent,
        Measure("no-new-privileges", modest),
        Measure("seccomp", modest or seccomp.restrict(libc)),
        Measure("landlock", no_landlock, version),
    )


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


def _die_first() -> str:
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text(str(MOST_WILLING_TO_DIE))
        return ""
    return f"{OOM_SCORE} cannot be written"


def _why(result: int) -> str:
    return "" if result == 0 else f"the kernel refuses it: {os.strerror(ctypes.get_errno())}"
