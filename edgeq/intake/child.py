"""A staged file -> what the probe found, or why it found nothing: the parent's side of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from edgeq.errors import DropError
from edgeq.intake import answer
from edgeq.intake.answer import Probe
from edgeq.intake.sandbox import OUTPUT_BYTES, Measure

__all__ = ["Probe", "ProbeLimits", "check_sandbox", "probe_command", "run_probe"]

LEAST_MEMORY_BYTES = 1 << 30  # of address space: the runtime's libraries alone take a fifth of it
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_SET_VARIABLES = {
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",  # from Python 3.11 on; before it, the working folder "/" is searched
    "OPENBLAS_NUM_THREADS": "1",  # each thread would reserve address space against RLIMIT_AS
    "OMP_NUM_THREADS": "1",
}
REAP_S = 10.0  # for SIGKILL to take effect
NICE = 10  # the requests of what serves come first, as beside a build
_PHASE = re.compile(rb"^phase (\w+)$", re.MULTILINE)
_DOING = {b"structure": "checking", b"load": "loading", b"run": "running"}
_ENDLESS = "Use a smaller model; one that never ends is damaged, or was made to harm."
_NO_MEMORY = "Use a smaller model, or give the box more memory."
_CRASHES = "Export the model again; if that does not help, use a newer runtime (`edgeq doctor`)."


@dataclass(frozen=True)
class ProbeLimits:
    """What the child may use."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30
    cpu_s: int = 60
    must_confine: bool = False  # refuse to open a file where the confinement is not complete


@dataclass(frozen=True)
class _Ending:
    code: int | None  # negative: the signal; None: it ran out of time
    answer: bytes
    log: bytes

    @property
    def doing(self) -> str:
        phases = _PHASE.findall(self.log)
        return _DOING.get(phases[-1], "probing") if phases else "starting"

    @property
    def last_words(self) -> str:
        lines = [line for line in self.log.splitlines() if not _PHASE.fullmatch(line)]
        last = answer.words(lines[-1].decode("utf-8", "replace"))[:300] if lines else ""
        return last or "it said nothing"


def run_probe(path: Path | None, limits: ProbeLimits) -> Probe:
    """Open a model in a child that may crash; without a path, the child's own.

    Raises:
        DropError: stages 'structure', 'load' and 'run' are the model's; 'sandbox' is this box's,
            which cannot confine the child as it must be; 'probe' is the child's own end: a crash,
            a forbidden system call, the time or the memory.
    """
    limits = _affordable(limits)
    ending = _run(probe_command(path, limits), limits.timeout_s)
    found = answer.parse(ending.answer)
    if (refusal := answer.refusal(found)) is not None:
        raise refusal
    if ending.code != 0:
        raise _death(ending, limits)
    try:
        return answer.read(found.get("ok"))
    except ValueError as wrong:
        raise DropError(
            f"the probe's answer cannot be read: {answer.words(str(wrong))}",
            stage="probe",
            hint=_CRASHES,
        ) from wrong


def check_sandbox() -> tuple[Measure, ...]:
    """Return how this box confines the child, which loaded and ran a model of ours so confined.

    Raises:
        DropError: it could not; its message says at what it ended.
    """
    return run_probe(None, ProbeLimits()).sandbox


def probe_command(path: Path | None, limits: ProbeLimits) -> list[str]:
    """Return the command line of the child."""
    return [
        *(sys.executable, "-m", "edgeq.intake.probe"),
        *(() if path is None else (os.path.abspath(path),)),
        *("--memory-bytes", str(limits.memory_bytes), "--cpu-s", str(limits.cpu_s)),
        *("--parent", str(os.getpid())),
        *(("--must-confine",) if limits.must_confine else ()),
    ]


def _affordable(limits: ProbeLimits) -> ProbeLimits:
    """Lower the memory to half of what the box has: the versions that serve need the rest."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    ceiling = max(LEAST_MEMORY_BYTES, half)
    return replace(limits, memory_bytes=min(limits.memory_bytes, ceiling))


def _run(command: list[str], timeout_s: float) -> _Ending:
    """Run a child in its own session; its output goes to memory files, which cannot block it."""
    with _memory_file("answer") as output, _memory_file("log") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
        be_ended_first(child.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
        try:
            code: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
        return _Ending(code, _content(output), _content(log))


def be_ended_first(pid: int) -> None:
    """Let the kernel end this child, not the daemon, where the box runs out of memory."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("800")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that even this does not end
            child.wait(REAP_S)


def _memory_file(name: str) -> IO[bytes]:
    return os.fdopen(os.memfd_create(f"edgeq-probe-{name}", os.MFD_CLOEXEC), "w+b")


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(OUTPUT_BYTES)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    return {**kept, **_SET_VARIABLES, "PYTHONPATH": ":".join(paths)}


def _death(ending: _Ending, limits: ProbeLimits) -> DropError:
    """Return the reason for a child that ended without an answer."""
    if ending.code is None:
        return DropError(
            f"the model took longer than {limits.timeout_s:g} s ({ending.doing})",
            stage="probe",
            hint=_ENDLESS,
        )
    name = _signal_name(ending.code)
    if name == "SIGSYS":
        return DropError(
            f"the runtime was made to ask the kernel for what no model needs while {ending.doing}",
            stage="probe",
            hint="Do not trust where the file came from; `journalctl -k` names the system call.",
        )
    if name == "SIGXCPU":
        reason = f"the model used more than {limits.cpu_s} s of CPU time while {ending.doing}"
        return DropError(reason, stage="probe", hint=_ENDLESS)
    if name == "SIGKILL":
        reason = f"the probe was killed while {ending.doing}; the box may be out of memory"
        killed = DropError(reason, stage="probe", hint=_NO_MEMORY)
        killed.__cause__ = MemoryError("killed")  # the box's fault, until it happens again
        return killed
    if b"bad_alloc" in ending.log or b"MemoryError" in ending.log:
        reason = f"the model needs more than {limits.memory_bytes >> 20} MiB while {ending.doing}"
    elif name:
        reason = f"the runtime crashed ({name}) while {ending.doing} the model"
    else:
        reason = f"the probe failed while {ending.doing} the model: {ending.last_words}"
    return DropError(reason, stage="probe", hint=_CRASHES)


def _signal_name(code: int) -> str:
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
