"""What can be configured: every key with its type, limits, default and unit.

The descriptions are for people: configs/edgeq.yaml shows the same keys, held to this by a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from edgeq.config.fields import (
    GIB,
    MIB,
    AbsolutePath,
    Bytes,
    Count,
    Number,
    Ratio,
    Seconds,
    Section,
)
from edgeq.config.server import Server
from edgeq.drift.options import MOST_FALSE_ALARMS, DriftOptions
from edgeq.intake.admit import AdmitOptions
from edgeq.intake.signature import PublicKey
from edgeq.samples.store import StoreOptions
from edgeq.swap import ProbationOptions, SwapOptions

SOCKET_NAME = "edgeq.sock"
STATE_ROOT, RUNTIME_ROOT = Path("/var/lib"), Path("/run")  # of services: file-hierarchy(7)
MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less the final zero

Method = Literal["auto", "entropy", "percentile", "mse", "max"]
SwapPolicy = Literal["auto", "load-then-drop", "drop-then-load"]


class Build(Section):
    """How a dropped model becomes an INT8 engine."""

    backend: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="which engine to build"
    )
    method: Method = Field(default="auto", description="how clipping ranges are chosen")
    refine: Annotated[bool, Strict()] = Field(
        default=True, description="refine biases, rounding and channels where that measures better"
    )
    mixed_precision: Annotated[bool, Strict()] = Field(
        default=True, description="where the gate refuses INT8, keep the costliest ops float"
    )
    tune: Annotated[bool, Strict()] = Field(
        default=True, description="time the GPU's kernels on the device, layer by layer"
    )
    threads: Count = Field(default=1, description="CPU threads of a build")
    nice: Annotated[int, Strict(), Field(ge=0, le=19)] = Field(
        default=10,
        description="scheduling priority of a build, 0 (as the daemon) to 19 (only when idle)",
    )
    memory_bytes: Bytes = Field(default=4 * GIB, description="memory of a build, bytes")
    timeout_s: Seconds = Field(default=3600.0, description="a longer build is ended, seconds")
    stall_timeout_s: Seconds = Field(
        default=300.0, description="a build that does nothing for so long is ended, seconds"
    )


class Samples(Section):
    """The captured inputs that calibration, verification and drift read."""

    capture_ratio: Ratio = Field(
        default=1.0, description="share of live requests offered to the store"
    )
    minimum: Count = Field(default=64, description="samples that start a calibration")
    maximum: Count = Field(default=1024, description="samples kept for each model")
    max_bytes: Bytes = Field(default=256 * MIB, description="disk for each model's samples, bytes")
    held_out_ratio: Annotated[float, Strict(), Field(gt=0, lt=1)] = Field(
        default=0.25, description="share kept from calibration, for the gate"
    )

    @model_validator(mode="after")
    def _minimum_fits(self) -> Samples:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    @property
    def store_options(self) -> StoreOptions:
        """The bounds of each model's store."""
        return StoreOptions(maximum=self.maximum, max_bytes=self.max_bytes)


class Verify(Section):
    """The gate between an INT8 engine and serving: how close it must be to the float model."""

    agreement: Ratio = Field(
        default=0.95, description="least share of float's choices that a classifier makes too"
    )
    cosine: Annotated[float, Strict(), Field(ge=-1, le=1)] = Field(
        default=0.98, description="least cosine similarity of any other output"
    )
    sqnr_db: Number = Field(
        default=10.0, description="least signal to quantization noise of any other output, dB"
    )
    golden: Count = Field(
        default=4, description="inputs whose outputs an engine must reproduce to load"
    )


class Probation(Section):
    """The watch over a new version while the previous one can still come back."""

    window_s: Seconds = Field(
        default=30.0, description="how long a new version is watched, seconds"
    )
    max_error_ratio: Ratio = Field(
        default=0.01, description="share of failed requests that rolls it back"
    )
    max_latency_ratio: Annotated[float, Strict(), Field(ge=1, allow_inf_nan=False)] = Field(
        default=1.5, description="median inference time over the one before that rolls it back"
    )
    shadow_ratio: Ratio = Field(
        default=1.0, description="share of requests offered to the one before too; 0: none"
    )
    max_disagreement_ratio: Ratio = Field(
        default=0.1, description="disagreement with the one before that rolls it back"
    )
    across_models: Annotated[bool, Strict()] = Field(
        default=False, description="whether these two limits hold for another model, too"
    )

    @property
    def options(self) -> ProbationOptions:
        """What takes a version back."""
        return ProbationOptions(
            window_s=self.window_s,
            max_error_ratio=self.max_error_ratio,
            max_latency_ratio=self.max_latency_ratio,
        )


class Swap(Section):
    """How a new engine takes over."""

    policy: SwapPolicy = Field(
        default="auto", description="auto: drop-then-load where memory holds only one engine"
    )
    instances: Count = Field(
        default=1, description="engines of each model, each serving one request"
    )
    threads: Count = Field(default=1, description="CPU threads of each engine")
    queue_size: Count = Field(default=64, description="requests that may wait; beyond: 503")
    max_batch: Count = Field(
        default=1,
        description="requests that may run together, where that is quicker; 1: each alone",
    )
    max_delay_us: Annotated[int, Strict(), Field(ge=0, le=1_000_000)] = Field(
        default=0, description="how long the first of a batch waits for others, microseconds"
    )
    warmup_runs: Annotated[int, Strict(), Field(ge=0)] = Field(
        default=3, description="inferences of a new engine before it serves"
    )
    drain_timeout_s: Seconds = Field(
        default=30.0, description="how long the old engine may finish its requests, seconds"
    )
    hang_timeout_s: Seconds = Field(
        default=10.0, description="a longer inference, 20 times the usual at least, hangs, seconds"
    )
    probation: Probation = Probation()

    @property
    def options(self) -> SwapOptions:
        """How each model's slot serves and swaps."""
        return SwapOptions(
            policy="load-then-drop" if self.policy == "auto" else self.policy,
            instances=self.instances,
            queue_size=self.queue_size,
            max_batch=self.max_batch,
            max_delay_us=self.max_delay_us,
            warmup_runs=self.warmup_runs,
            drain_timeout_s=self.drain_timeout_s,
            hang_timeout_s=self.hang_timeout_s,
        )


class Drift(Section):
    """What happens when live inputs no longer look like the calibration's."""

    policy: Literal["recalibrate", "alert", "off"] = Field(
        default="recalibrate", description="rebuild on recent samples, only tell, or do not look"
    )
    window: Count = Field(default=200, description="live samples that are compared")
    psi: Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.1, description="least population stability index that counts as drift"
    )
    false_alarm_ratio: Annotated[
        float, Strict(), Field(gt=0, le=MOST_FALSE_ALARMS, allow_inf_nan=False)
    ] = Field(
        default=0.01, description="share of windows without drift that may alarm, at most 0.05"
    )
    interval_s: Seconds = Field(default=10.0, description="time between looks, seconds")
    minimum_interval_s: Seconds = Field(
        default=3600.0,
        description="least time between recalibrations, seconds; doubled with each one refused",
    )
    daily_budget: Count = Field(
        default=6, description="recalibrations that drift may start within 24 hours"
    )
    activation_interval_s: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="seconds between looks at a frame's activations at least, 0: none"
    )
    save_interval_s: Seconds = Field(
        default=30.0, description="time between writes of the windows to disk, seconds"
    )

    @property
    def drift_options(self) -> DriftOptions:
        """What counts as drift, and what then happens."""
        return DriftOptions(**self.model_dump())


class Intake(Section):
    """How the drop folder is watched."""

    settle_s: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] = Field(
        default=2.0, description="how long a file must not change before it is taken, seconds"
    )
    rescan_s: Seconds = Field(
        default=10.0, description="time between looks without an event, seconds"
    )
    max_models: Count = Field(default=100, description="models, each under a name of its own")


def _readable_keys(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        PublicKey.parse(text)
    return value


class Security(Section):
    """What a drop may be, and how it is looked at."""

    public_keys: Annotated[tuple[str, ...], AfterValidator(_readable_keys)] = Field(
        default=(), description="minisign keys; a drop must be signed by one of them"
    )
    max_model_bytes: Bytes = Field(default=GIB, description="largest drop, bytes")
    sandbox: Literal["auto", "required"] = Field(
        default="auto",
        description="auto: a drop is first loaded in a child confined as this box allows; "
        "required: no drop is taken where the box cannot confine it so that a hostile one is held",
    )

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Whose signatures count; none: no drop has to be signed."""
        return tuple(map(PublicKey.parse, self.public_keys))

    @property
    def admit_options(self) -> AdmitOptions:
        """What a drop may be."""
        return AdmitOptions(
            max_model_bytes=self.max_model_bytes, must_confine=self.sandbox == "required"
        )


class SafeMode(Section):
    """When edgeq only serves, because it died again and again soon after its start."""

    unclean_starts: Annotated[int, Strict(), Field(ge=0)] = Field(
        default=3, description="deaths in a row that bring safe mode; 0: never"
    )
    within_s: Seconds = Field(
        default=600.0, description="a run that lasts longer is no unclean start, seconds"
    )
    quiet_s: Seconds = Field(
        default=1800.0, description="time without a death that ends safe mode, seconds"
    )


class Log(Section):
    """What is written to stderr."""

    format: Literal["text", "json", "journal"] = Field(
        default="text", description="for people, for machines, or for systemd's journal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level"
    )


class Config(Section):
    """The whole configuration."""

    models_dir: AbsolutePath = Field(
        default=Path("/srv/edgeq/models"), description="the drop folder: NAME.tflite"
    )
    state_dir: AbsolutePath = Field(
        default=Path("/var/lib/edgeq"), description="registry, bundles, samples and quarantine"
    )
    on_remove: Literal["keep", "unload"] = Field(
        default="keep", description="what a removed drop does to the model it brought"
    )
    server: Server = Server()
    build: Build = Build()
    samples: Samples = Samples()
    verify: Verify = Verify()
    swap: Swap = Swap()
    drift: Drift = Drift()
    intake: Intake = Intake()
    security: Security = Security()
    safe_mode: SafeMode = SafeMode()
    log: Log = Log()

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens for local clients, and where commands find it.

        A service's state is private, and /run/NAME is where its clients look for it.
        """
        is_service = self.state_dir.parent == STATE_ROOT
        folder = RUNTIME_ROOT / self.state_dir.name if is_service else self.state_dir
        return self.server.unix_socket or folder / SOCKET_NAME

    @model_validator(mode="after")
    def _socket_fits(self) -> Config:
        length = len(bytes(self.socket_path))
        if length > MAX_SOCKET_PATH_BYTES:
            raise ValueError(
                f"the path of the Unix socket {self.socket_path} has {length} bytes; "
                f"Linux takes {MAX_SOCKET_PATH_BYTES}: set server.unix_socket"
            )
        return self
