"""One model under the daemon: its slot, its samples, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeq.config import Config, Sidecar
from edgeq.daemon.builder import BuildJob
from edgeq.daemon.events import Events
from edgeq.daemon.faults import Faults
from edgeq.daemon.retries import (
    BUILD_FIRST_S,
    BUILD_LONGEST_S,
    DROP_FIRST_S,
    DROP_LONGEST_S,
    Retries,
)
from edgeq.daemon.series import Series
from edgeq.daemon.starts import Starts
from edgeq.drift.state import DriftState
from edgeq.drift.watch import StreamWatch
from edgeq.intake.admit import Admitted
from edgeq.intake.quarantine import Quarantine
from edgeq.observe.metrics import Metrics
from edgeq.registry import Registry, Version
from edgeq.samples.store import SampleStore, is_held_out
from edgeq.swap import InferRecord, Latency, LatencyRecord, Shadow, Slot, TurnBudget

State = Literal["waiting", "serving", "building", "probation", "failed"]

UNLOADED = "unloaded"  # the reason of a model that was stopped by a person
TIMED_VERSIONS = 4  # whose inference times are kept


@dataclass(frozen=True)
class Paths:
    """Where things are below the state folder."""

    state: Path

    @property
    def registry(self) -> Path:
        """The SQLite file."""
        return self.state / "edgeq.db"

    @property
    def starts(self) -> Path:
        """How the runs before ended."""
        return self.state / "starts.json"

    @property
    def retries(self) -> Path:
        """Builds that are to be tried again."""
        return self.state / "builds-again.json"

    @property
    def staging(self) -> Path:
        """Drops on their way in."""
        return self.state / "intake"

    @property
    def building(self) -> Path:
        """Folders of the build children."""
        return self.state / "building"

    @property
    def quarantine(self) -> Path:
        """Refused drops."""
        return self.state / "quarantine"

    def bundle(self, name: str, version: int) -> Path:
        """The bundle of one version."""
        return self.state / "bundles" / name / str(version)

    def fresh(self, name: str) -> Path:
        """Links to the samples that came since the inputs drifted."""
        return self.state / "fresh" / name

    def drift(self, name: str) -> Path:
        """What was seen of a model's live frames, for the next start."""
        return self.state / "drift" / f"{name}.npz"

    def samples(self, name: str) -> Path:
        """The sample store of one model."""
        return self.state / "samples" / name

    def set_aside(self, name: str) -> Path:
        """A model's samples of other inputs than those it takes now, a folder for each."""
        return self.state / "samples-set-aside" / name


@dataclass(eq=False)
class Context:
    """What every part of the daemon needs; `config` is replaced by a reload."""

    config: Config
    paths: Paths
    registry: Registry
    quarantine: Quarantine
    metrics: Metrics
    starts: Starts = field(default_factory=Starts)
    stuck: Mapping[str, tuple[str, float]] = field(default_factory=dict)  # threads, as Duties says
    turn: TurnBudget = field(default_factory=TurnBudget)  # of the loop that serves all models
    root: Path = Path("/")  # of the filesystem that holds proc and sys

    def __post_init__(self) -> None:
        self.faults = Faults(self.registry, self.metrics, self.paths.state)
        self.events = Events(self.registry, self.faults)
        self.drops_again = Retries(DROP_FIRST_S, DROP_LONGEST_S)
        self.builds_again = Retries(BUILD_FIRST_S, BUILD_LONGEST_S, path=self.paths.retries)


@dataclass(frozen=True)
class Probation:
    """The watch over a version that was just published."""

    version: Version
    before: Version  # which comes back where the new one fails
    ends: float  # time.monotonic()
    latency_before: Latency
    shadow: Shadow | None = None

    @property
    def is_same_model(self) -> bool:
        """True where both were made from the same file."""
        return self.version.model_sha256 == self.before.model_sha256


class Latencies:
    """The inference times of a model's latest versions, each by the engine that answered."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], LatencyRecord] = {}

    def add(self, record: InferRecord) -> None:
        """Take one request, on the thread that answered it."""
        if record.error:
            return
        key = (record.version, record.engine)
        known = self._records.get(key)
        if known is None:  # of two threads that come first at once, one's record may be lost
            known = LatencyRecord()
            self._records = dict([*self._records.items(), (key, known)][-TIMED_VERSIONS:])
        known.add(record.infer_s / record.batch)

    @property
    def records(self) -> Mapping[tuple[str, str], LatencyRecord]:
        """What is kept, by version and engine."""
        return self._records

    def of(self, version: int, engine: str) -> Latency:
        """Return what a version took on an engine, zeros where it is not known."""
        record = self._records.get((str(version), engine))
        return record.latency if record else Latency()


@dataclass(eq=False)
class Deployment:
    """A model; its fields are written by the deploy thread and read by any."""

    name: str
    slot: Slot
    store: SampleStore
    latencies: Latencies = field(default_factory=Latencies)
    series: Series = field(default_factory=Series)
    sidecar: Sidecar = field(default_factory=Sidecar)
    state: State = "waiting"
    reason: str = ""
    method: str = ""  # of the live version
    noted_engine: str = ""  # the kind of engine that was last said to serve
    model_sha256: str = ""  # of the float model behind the live version
    foreign: str = ""  # why the live version is to be built again: another box or edgeq built it
    arriving: Admitted | None = None  # a drop that is built before it is served
    building: BuildJob | None = None  # what is being built; another job's outcome is stale
    progress: dict[str, Any] | None = None  # of the running build
    monitor: StreamWatch | None = None
    drift: DriftState | None = None
    drift_since: float | None = None  # seconds since the epoch; None while there is no drift
    recalibration: str = ""  # what an answer to the drift waits for
    probation: Probation | None = None
    unrecorded: tuple[int, str] | None = None  # a rollback that the disk refused to record

    @property
    def engine(self) -> str:
        """The kind of the live engine, '' without one."""
        live = self.slot.live
        return live.engine if live else ""

    @property
    def version(self) -> str:
        """The live version, '' without one."""
        live = self.slot.live
        return live.version if live else ""


def make_deployment(
    context: Context, name: str, on_infer: Callable[[InferRecord], None]
) -> Deployment:
    """Open a model's sample store and slot, and give it its metric series."""
    latencies = Latencies()

    def on_record(record: InferRecord) -> None:
        latencies.add(record)
        on_infer(record)

    slot = Slot(name, context.config.swap.options, on_record, context.turn)
    deployment = Deployment(name, slot, open_store(context, name), latencies)
    context.metrics.watch_model(name, lambda: float(slot.queue_length))
    context.metrics.watch_samples(
        name,
        lambda group: float(count_samples(context, deployment.store)[group]),
        lambda: float(deployment.store.bytes),
    )
    context.metrics.samples_max_bytes.labels(name).set(context.config.samples.max_bytes)
    return deployment


def open_store(context: Context, name: str) -> SampleStore:
    """Open a model's sample store with the configured bounds."""
    return SampleStore(context.paths.samples(name), context.config.samples.store_options)


def count_samples(context: Context, store: SampleStore) -> dict[str, int]:
    """Return how many samples a build would calibrate on, and how many it would hold out."""
    ratio = context.config.samples.held_out_ratio
    rows = store.rows()
    held_out = sum(is_held_out(row.id, ratio) for row in rows)
    return {"fit": len(rows) - held_out, "held_out": held_out}
