"""A staged file -> what the probe found, or why it found nothing: the parent's side of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeq.errors import DropError
from edgeq.intake.sandbox import OUTPUT_BYTES
from edgeq.tflite.runtime import TensorSpec

_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_SET_VARIABLES = {
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",  # from Python 3.11 on; before it, the working folder "/" is searched
    "OPENBLAS_NUM_THREADS": "1",  # each thread would reserve address space against RLIMIT_AS
    "OMP_NUM_THREADS": "1",
}
_PHASE = re.compile(rb"^phase (\w+)$", re.MULTILINE)
_DOING = {b"structure": "checking", b"load": "loading", b"run": "running"}
_CRASHES = "Export the model again; if that does not help, use a newer runtime (`edgeq doctor`)."


@dataclass(frozen=True)
class Probe:
    """What the disposable child found out about a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: dict[str, int]  # op name -> how many
    quantized: bool  # arrived as integers: it keeps its own scales
    finite: bool  # no NaN or infinity on small random inputs
    memory_bytes: int
    load_s: float
    run_s: float
    sandbox: tuple[str, ...]  # the measures that were in force


@dataclass(frozen=True)
class ProbeLimits:
    """What the child may use."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30
    cpu_s: int = 60


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
        return lines[-1].decode("utf-8", "replace")[:300] if lines else "it said nothing"


def run_probe(path: Path, limits: ProbeLimits) -> Probe:
    """Open a model in a child that may crash.

    Raises:
        DropError: stages 'structure', 'load' and 'run' are the model's; 'probe' is the child's
            own end: a crash, the time or the memory.
    """
    ending = _run(probe_command(path, limits), limits.timeout_s)
    answer = _parse(ending.answer)
    error = answer.get("error")
    if isinstance(error, dict):
        raise DropError(
            str(error.get("message")), stage=str(error.get("stage")), hint=str(error.get("hint"))
        )
    if ending.code != 0:
        raise _death(ending, limits)
    try:
        return _probe(answer["ok"])
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise DropError(
            f"the probe's answer cannot be read: {wrong!r}", stage="probe", hint=_CRASHES
        ) from wrong


def probe_command(path: Path, limits: ProbeLimits) -> list[str]:
    """Return the command line of the child."""
    return [
        *(sys.executable, "-m", "edgeq.intake.probe", os.path.abspath(path)),
        *("--memory-bytes", str(limits.memory_bytes), "--cpu-s", str(limits.cpu_s)),
    ]


def _run(command: list[str], timeout_s: float) -> _Ending:
    """Run a child in its own session; its output goes to memory files, which cannot block it."""
    with _memory_file("answer") as answer, _memory_file("log") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=log,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
        try:
            code: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
        return _Ending(code, _content(answer), _content(log))


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _memory_file(name: str) -> IO[bytes]:
    return os.fdopen(os.memfd_create(f"edgeq-probe-{name}", os.MFD_CLOEXEC), "w+b")


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(OUTPUT_BYTES)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    return {**kept, **_SET_VARIABLES, "PYTHONPATH": ":".join(paths)}


def _parse(answer: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _probe(found: dict[str, Any]) -> Probe:
    return Probe(
        inputs=tuple(_spec(item) for item in found["inputs"]),
        outputs=tuple(_spec(item) for item in found["outputs"]),
        ops={str(name): int(count) for name, count in found["ops"].items()},
        quantized=bool(found["quantized"]),
        finite=bool(found["finite"]),
        memory_bytes=int(found["memory_bytes"]),
        load_s=float(found["load_s"]),
        run_s=float(found["run_s"]),
        sandbox=tuple(map(str, found["sandbox"])),
    )


def _spec(item: dict[str, Any]) -> TensorSpec:
    return TensorSpec(str(item["name"]), tuple(map(int, item["shape"])), np.dtype(item["dtype"]))


def _death(ending: _Ending, limits: ProbeLimits) -> DropError:
    """Return the reason for a child that ended without an answer."""
    if ending.code is None:
        return DropError(
            f"the model took longer than {limits.timeout_s:g} s ({ending.doing})",
            stage="probe",
            hint="Use a smaller model, or raise the time limit of the probe.",
        )
    name = _signal_name(ending.code)
    if name == "SIGXCPU":
        reason = f"the model used more than {limits.cpu_s} s of CPU time while {ending.doing}"
    elif name == "SIGKILL":
        reason = f"the probe was killed while {ending.doing}; the box may be out of memory"
    elif b"bad_alloc" in ending.log or b"MemoryError" in ending.log:
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
