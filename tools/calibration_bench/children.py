"""A script, its job and a limit -> its report; whatever becomes of the child, there is one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent.parent / "calibrate_peers"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclass(frozen=True)
class Report:
    """How a child fared: 'ok', 'failed' (it said why), 'crashed', or 'timeout'."""

    status: str
    reason: str = ""
    seconds: float | None = None  # of the work, imports and samples' loading not counted
    cpu_s: float | None = None
    peak_rss_mib: float | None = None  # during the work, the whole process
    above_mib: float | None = None  # over what was resident when the work began
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Child:
    """Runs one script after the other, each in a process of its own."""

    folder: Path  # jobs, reports and what the children print
    threads: int
    limit_s: float

    def run(
        self,
        python: Path,
        script: str,
        model: Path,
        samples: Sequence[Path],
        out: Path,
        *,
        setting: str = "",
        folder: Path | None = None,
    ) -> Report:
        """Run the script to its end, or to the limit."""
        stem = self.folder / f"{out.stem}.{Path(script).stem}"
        job, report = stem.with_suffix(".job.json"), stem.with_suffix(".report.json")
        fields = {"model": model, "samples": [str(path) for path in samples], "setting": setting,
                  "threads": self.threads, "out": out, "folder": folder}  # fmt: skip
        job.write_text(json.dumps({k: str(v) if isinstance(v, Path) else v
                                   for k, v in fields.items()}))  # fmt: skip
        report.unlink(missing_ok=True)
        command = [str(python), str(SCRIPTS / script), str(job), str(report)]
        with stem.with_suffix(".log").open("w+") as log:
            ended = self._wait(command, log)
            if ended is None:
                return Report("timeout", f"not done after {self.limit_s:g} s")
            if not report.exists():
                log.seek(0)
                return Report("crashed", _last_words(ended, log.read()))
        told = json.loads(report.read_text())
        return Report(**{**told, "notes": tuple(told["notes"])})

    def _wait(self, command: Sequence[str], log: Any) -> int | None:
        """Return the exit code, or None where the child and its own had to be killed."""
        environ = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads)),
                   "CUDA_VISIBLE_DEVICES": "", "CI": "true"}  # fmt: skip # CI: no telemetry
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ,
            cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(self.limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):  # also what it may have left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_words(code: int, log: str) -> str:
    """Return what ended a child that left no report: the signal, or its last line."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = log.strip().splitlines()
    return (lines or [f"exit code {code}"])[-1][:300]
