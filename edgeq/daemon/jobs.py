"""A deployment -> the build job for what it serves or is to serve; an ended one -> its metrics."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.daemon.builder import BuildJob, BuildLimits, BuildOutcome, Cause
from edgeq.daemon.deployment import Context, Deployment


def make_job(
    context: Context, deployment: Deployment, cause: Cause, more: Sequence[str] = ()
) -> BuildJob:
    """Return the build of the drop that arrives, or else of the live model.

    Args:
        context: the daemon's paths and configuration.
        deployment: the model.
        cause: why.
        more: arguments of `edgeq build`, beside those that are configured.
    """
    arriving, live = deployment.arriving, deployment.version
    if arriving is not None:
        model, sha256 = arriving.path, arriving.sha256
    else:
        model = context.paths.bundle(deployment.name, int(live)) / "float.tflite"
        sha256 = deployment.model_sha256
    flags = _flags(context, deployment)
    return BuildJob(deployment.name, sha256, cause, (str(model), *flags, *more))


def _flags(context: Context, deployment: Deployment) -> list[str]:
    config, sidecar = context.config, deployment.sidecar
    gate = {**config.verify.model_dump(), **sidecar.gate.model_dump(exclude_none=True)}
    arguments = {
        "--samples": deployment.store.directory,
        "--name": deployment.name,
        "--backend": config.build.backend,
        "--method": sidecar.method or config.build.method,
        "--threads": config.build.threads,
        "--held-out-ratio": config.samples.held_out_ratio,
        "--task": sidecar.task,
        "--agreement": gate["agreement"],
        "--cosine": gate["cosine"],
        "--sqnr-db": gate["sqnr_db"],
        "--golden": gate["golden"],
    }
    flags = [f"{flag}={value}" for flag, value in arguments.items()]  # a name may start with -
    flags += [] if config.build.refine else ["--no-refine"]
    flags += [] if config.build.tune else ["--no-tune"]
    return [*flags, "--mixed" if config.build.mixed_precision else "--no-mixed"]


def build_limits(context: Context) -> BuildLimits:
    """Return what a build child may use, as configured now."""
    limits = context.config.build
    return BuildLimits(
        nice=limits.nice,
        memory_bytes=limits.memory_bytes,
        timeout_s=limits.timeout_s,
        stall_timeout_s=limits.stall_timeout_s,
        threads=limits.threads,
    )


def count_build(context: Context, outcome: BuildOutcome) -> None:
    """Count an ended build, and show the figures of its stages and verdict."""
    metrics, job = context.metrics, outcome.job
    metrics.builds.labels(job.name, outcome.outcome).inc()
    if job.cause in ("drift", "request"):
        metrics.recalibrations.labels(job.name, outcome.outcome).inc()
    for stage, seconds in outcome.result.get("stages", {}).items():
        metrics.build_duration.labels(job.name, stage).observe(seconds)
    verdict = outcome.result.get("verdict", {})
    if verdict.get("agreement") is not None:
        metrics.verify_agreement.labels(job.name).set(verdict["agreement"])
    if verdict:
        metrics.verify_sqnr.labels(job.name).set(verdict["sqnr_db"])


def build_key(sha256: str) -> str:
    """Return the registry's key for "this float model's build was refused"."""
    return f"build:{sha256}"
