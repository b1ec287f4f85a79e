"""One drifted case and one without drift -> what edgeq and its peers say of the same windows."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.monitor import DriftMonitor
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.state import TensorDrift
from edgeq.drift.window import Window
from tools.calibration_bench.environments import MissingEnvironment
from tools.drift_bench.cases import Case, Counts

Array = npt.NDArray[Any]

# As they were measured together; evidently 0.7.23 does not load with pandas 3.
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "drift": ("evidently==0.7.23", "pandas<3", "whylogs[viz]==1.6.4", "nannyml==0.13.1")
}
CHILD = Path(__file__).with_name("peers_child.py")
LIMIT_S = 900.0
NO_DRIFT = "no drift"


@dataclass(frozen=True)
class Verdicts:
    """How often a tool saw drift in windows of one kind."""

    tool: str
    windows: str  # the kind of drift they have
    any_column: float  # share of windows where any column drifts
    half_of_columns: float  # where half of them do
    figures: Mapping[str, float]  # of the first window, by column


def compare(
    case: Case, python: Path, *, reference_frames: int, window: int, each: int, seed: int = 2
) -> list[Verdicts]:
    """Judge windows of single values and classes: what all of the tools can take.

    Raises:
        MissingEnvironment: the peers' environment does not run.
    """
    draw = np.random.default_rng(seed)
    chosen = draw.integers(0, case.size, reference_frames)
    kinds = {NO_DRIFT: case.frames, **case.drifted}
    places = {kind: draw.integers(0, case.size, (each, window)) for kind in kinds}
    streams = [s for s in case.streams if s.kind in ("scalar", "classes")]
    reference = DriftReference.from_frames(
        streams, ({s.name: case.frames[s.name][place] for s in streams} for place in chosen)
    )
    rows = [_edgeq(reference, kind, kinds[kind], at) for kind, at in places.items()]
    columns = {
        "names": np.array([s.name for s in streams], np.str_),
        "categorical": np.array([s.is_categorical for s in streams]),
        "reference": _columns(streams, case.frames)[chosen],
        **{f"windows_{k}": _columns(streams, kinds[k])[at] for k, at in places.items()},
    }
    return [*rows, *_of_peers(python, columns)]


def _columns(streams: Sequence[Any], counts: Counts) -> Array:
    """Return the value of every frame, float64 [frames, columns]."""
    return np.column_stack([s.values[counts[s.name].argmax(axis=1)] for s in streams])


def _edgeq(reference: DriftReference, kind: str, counts: Counts, places: Array) -> Verdicts:
    states = []
    for row in places:
        monitor = DriftMonitor(reference, DriftOptions(window=len(row)))
        monitor.merge({s.name: _window(counts[s.name][row]) for s in reference.streams})
        states.append(monitor.check())
    halves = [np.mean([t.active for t in state.tensors]) >= 0.5 for state in states]
    return Verdicts(
        tool="edgeq",
        windows=kind,
        any_column=float(np.mean([state.active for state in states])),
        half_of_columns=float(np.mean(halves)),
        figures={t.tensor: _figure(t) for t in states[0].tensors},
    )


def _window(rows: Array) -> Window:
    """Frames of equal weight that do not hang together."""
    frames = float(len(rows))
    counts = rows.sum(axis=0).astype(np.float64)
    return Window(len(rows), counts=counts, weight=frames, squares=frames, steps=np.inf)


def _figure(drift: TensorDrift) -> float:
    return drift.value


def _of_peers(python: Path, columns: Mapping[str, Array]) -> list[Verdicts]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "windows.npz"
        np.savez_compressed(path, **columns)  # type: ignore[arg-type]
        done = subprocess.run(
            [python, "-I", CHILD, path],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingEnvironment(f"the peers do not run: {last}")
    return [Verdicts(**row) for row in json.loads(done.stdout)]
