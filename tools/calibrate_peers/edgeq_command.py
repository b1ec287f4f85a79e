"""edgeq by its own commands: float .tflite + a folder of samples -> INT8 .tflite.

A setting is a method, with `+refine` for what `edgeq build` does without --no-refine; `calibrate`
is `edgeq calibrate` alone. The gate is wide open and mixed precision off: everything is INT8, as
the peers'. The time of a build holds its verification and its measurement of latency too; the
details hold each stage's.
"""

from __future__ import annotations

import contextlib
import io
import json

from measured import Job, Notes, main

from edgeq.cli import main as edgeq

OPEN_GATE = ["--agreement", "0", "--cosine", "-1", "--sqnr-db", "-100", "--no-mixed"]


def command(*arguments: object) -> str:
    """Run a command of edgeq; return what it printed."""
    printed, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaints):
        code = edgeq([str(argument) for argument in arguments])
    if code:
        raise RuntimeError(f"exit code {code}: {complaints.getvalue().strip()}")
    return printed.getvalue()


def work(job: Job, notes: Notes) -> None:
    common = [job.model, "--samples", job.folder, "--threads", job.threads, "--progress", "none"]
    if job.setting == "calibrate":
        command("calibrate", *common, "--out", job.out.with_suffix(".json"))
        return
    method, _, refine = job.setting.partition("+")
    bundle = job.out.with_suffix(".bundle")
    given = ["--method", method, *([] if refine else ["--no-refine"]), *OPEN_GATE]
    told = json.loads(command("build", *common, *given, "--json", "--out", bundle))
    command("export", bundle, "--format", "tflite", "--out", job.out)
    notes.details.update({key: told[key] for key in ("stages", "method", "refined", "float_ops")})


main(work, "edgeq")
