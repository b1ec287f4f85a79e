"""Build jobs -> `edgeq build` in a niced child, one at a time; the newest job of a model wins.

The child is limited in memory, time and priority; it writes into a folder of its own and
reports progress as JSON lines, so that whatever happens to it costs one build.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from edgeq import files
from edgeq.daemon.child import Child
from edgeq.daemon.faults import kind_of
from edgeq.intake.child import be_ended_first
from edgeq.observe.metrics import FAULT_KINDS, FaultKind

Cause = Literal["drop", "samples", "drift", "request"]
STDERR_LINES = 20  # kept of what a failing child said
NO_MEMORY = ("bad_alloc", "MemoryError", "Memory allocation still failed")  # C++, Python, OpenBLAS


@dataclass(frozen=True)
class BuildLimits:
    """What a build child may use."""

    nice: int = 10
    memory_bytes: int = 4 << 30
    timeout_s: float = 3600.0
    stall_timeout_s: float = 300.0
    threads: int = 1


@dataclass(frozen=True)
class BuildJob:
    """One build to make: `arguments` follow `edgeq build`, without --out."""

    name: str
    sha256: str  # of the float model
    cause: Cause
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class BuildOutcome:
    """How a build ended."""

    job: BuildJob
    outcome: Literal["succeeded", "rejected", "failed", "cancelled"]
    directory: Path  # of the build; its folder `bundle` is there when it succeeded
    result: dict[str, Any]  # the child's JSON: the build's figures, or error and hint
    seconds: float
    fault: FaultKind | None = None  # of the box: the same build may do later

    @property
    def bundle(self) -> Path:
        """Where a build that succeeded left its bundle."""
        return self.directory / "bundle"


class Builder:
    """Runs the jobs; `on_progress` and `on_end` are called on the watching thread."""

    def __init__(
        self,
        directory: Path,
        on_progress: Callable[[BuildJob, dict[str, Any]], None],
        on_end: Callable[[BuildOutcome], None],
    ) -> None:
        self.limits = BuildLimits()
        self._directory = directory
        self._on_progress = on_progress
        self._on_end = on_end
        self._lock = threading.Lock()
        self._waiting: dict[str, BuildJob] = {}
        self._running: _Child | None = None
        self._is_closed = False
        for left in directory.glob("*"):  # what the last run left unfinished
            shutil.rmtree(left, ignore_errors=True)

    def is_pending(self, name: str) -> bool:
        """True where a build of this model runs or waits."""
        with self._lock:
            runs = self._running is not None and self._running.job.name == name
            return runs or name in self._waiting

    def request(self, job: BuildJob) -> None:
        """Queue a job; it replaces any other of its model, even one that runs."""
        with self._lock:
            self._waiting[job.name] = job
            if self._running is not None and self._running.job.name == job.name:
                self._running.cancel()
        self._start_next()

    def cancel(self, name: str) -> None:
        """Forget the model's waiting job and end its running one."""
        with self._lock:
            self._waiting.pop(name, None)
            if self._running is not None and self._running.job.name == name:
                self._running.cancel()

    def close(self) -> None:
        """End the running child and start no other."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            child = self._running
        if child is not None:
            child.cancel()
            child.watcher.join()
            shutil.rmtree(child.directory, ignore_errors=True)  # nobody comes for it any more

    def _start_next(self) -> None:
        refused: BuildOutcome | None = None
        with self._lock:
            if self._running is not None or not self._waiting or self._is_closed:
                return
            job = self._waiting.pop(next(iter(self._waiting)))
            directory = files.temporary_directory(self._directory)
            child = _Child(job, directory, self.limits, self._on_progress, self._ended)
            self._running = child
            try:
                child.watcher.start()
            except RuntimeError as error:  # no thread can be started now
                self._running, refused = None, child.refused(error)
        if refused is not None:
            self._on_end(refused)

    def _ended(self, outcome: BuildOutcome) -> None:
        with self._lock:
            self._running = None
        self._on_end(outcome)
        self._start_next()


class _Child:
    """One `edgeq build` and the thread that reads its progress."""

    def __init__(
        self,
        job: BuildJob,
        directory: Path,
        limits: BuildLimits,
        on_progress: Callable[[BuildJob, dict[str, Any]], None],
        on_end: Callable[[BuildOutcome], None],
    ) -> None:
        self.job = job
        self.directory = directory
        self._limits = limits
        self._on_progress = on_progress
        self._on_end = on_end
        self._is_cancelled = False
        self._stderr: list[str] = []
        self._refusal: FaultKind | None = None  # why it could not be started
        self._child: Child | None = None
        self.watcher = threading.Thread(target=self._watch, name=f"build-{job.name}")

    def cancel(self) -> None:
        """Kill the child; the watcher then reports it as cancelled."""
        self._is_cancelled = True
        self._kill()

    def refused(self, error: RuntimeError) -> BuildOutcome:
        """Return the outcome of a build that could not be started."""
        result = {"error": f"the build could not be started: {error}", "hint": ""}
        return BuildOutcome(self.job, "failed", self.directory, result, 0.0, kind_of(error))

    def _kill(self) -> None:
        if self._child is not None:
            self._child.end()

    def _watch(self) -> None:
        started = time.monotonic()
        try:
            code = self._run()
        except (OSError, MemoryError, RuntimeError) as error:
            self._stderr.append(f"the build could not be started: {error}")
            self._refusal = kind_of(error, self.directory.parent)
            self._kill()
            code = 1
        self._on_end(self._outcome(code, time.monotonic() - started))

    def _run(self) -> int:
        self.directory.mkdir(parents=True)
        with (self.directory / "result.json").open("w") as result:
            process = self._spawn(result)
        limits = self._limits
        self._child = Child(process, timeout_s=limits.timeout_s, stall_s=limits.stall_timeout_s)
        be_ended_first(process.pid)
        if self._is_cancelled:  # while it was being spawned
            self._kill()
        for line in self._child.lines():
            self._hear(line)
        code = self._child.wait()
        return -signal.SIGKILL if code is None else code

    def _spawn(self, result: IO[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "edgeq", "build", *self.job.arguments]
        command += ["--out", str(self.directory / "bundle"), "--json", "--progress", "json"]
        threads = str(self._limits.threads)
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        process = subprocess.Popen(
            [*command, f"--exit-with-parent={os.getpid()}"],
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, self._limits.nice)
            limit = self._limits.memory_bytes
            # Not the address space: CUDA reserves as much of it as the GPUs have memory, and more.
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        return process

    def _hear(self, line: str) -> None:
        try:
            step = json.loads(line)
            self._on_progress(self.job, {k: step[k] for k in ("stage", "done", "total")})
        except (ValueError, KeyError, TypeError):
            self._stderr = [*self._stderr, line.rstrip()][-STDERR_LINES:]

    def _outcome(self, code: int, seconds: float) -> BuildOutcome:
        result = self._result()
        outcome: Literal["succeeded", "rejected", "failed", "cancelled"]
        if self._is_cancelled:
            outcome = "cancelled"
        elif code == 0 and "bundle" in result:
            outcome = "succeeded"
        else:
            outcome = "rejected" if result.get("kind") == "GateError" else "failed"
            result = result if "error" in result else self._died(code)
        is_over = outcome in ("succeeded", "cancelled")
        fault = None if is_over else self._fault(code, result)
        return BuildOutcome(self.job, outcome, self.directory, result, seconds, fault)

    def _fault(self, code: int, result: dict[str, Any]) -> FaultKind | None:
        """Return which fault of the box ended the child, None where none did."""
        if self._refusal is not None:
            return self._refusal
        if self._ended_for == "stalled":
            return "child_hung"
        named = [kind for kind in FAULT_KINDS if kind == result.get("fault")]
        if named or self._ended_for:
            return named[0] if named else None
        is_of_memory = any(word in line for line in self._stderr for word in NO_MEMORY)
        # Nobody else sends it: the kernel, which has no memory left.
        return "out_of_memory" if code == -signal.SIGKILL or is_of_memory else None

    @property
    def _ended_for(self) -> str:
        return self._child.ended_for if self._child else ""

    def _result(self) -> dict[str, Any]:
        try:
            result = json.loads((self.directory / "result.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return result if isinstance(result, dict) else {}

    def _died(self, code: int) -> dict[str, Any]:
        if self._ended_for == "stalled":
            stall_s = self._limits.stall_timeout_s
            error = f"the build did nothing for {stall_s:g} s and was ended"
            return {"error": error, "hint": "Look at `dmesg`: the disk or the GPU may hang."}
        if self._ended_for:
            error = f"the build took longer than {self._limits.timeout_s:g} s and was ended"
            return {"error": error, "hint": "Raise build.timeout_s, or keep fewer samples."}
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        said = "; ".join(self._stderr[-3:]) or "nothing"
        hint = "Run `edgeq build` by hand on the same model and samples."
        return {"error": f"the build {how}; it said: {said}", "hint": hint}
