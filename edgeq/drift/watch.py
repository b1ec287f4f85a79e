"""Answered frames of one live version -> its drift, and the health of its inputs.

The capture thread shows it frames, the deploy thread asks for the state. A share of the frames
also goes through the INT8 model that shows its activations: no more often than the interval, and
for no more than 0.5 % of one core's time, which is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from edgeq.calibrate.table import TensorRange
from edgeq.drift.activations import Tapped, tensors_of
from edgeq.drift.health import healths_of
from edgeq.drift.kept import HINT, Kept, from_npz, to_npz
from edgeq.drift.monitor import DriftMonitor
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.scales import ScaleWatch
from edgeq.drift.state import DriftState, TensorDrift
from edgeq.drift.streams import StreamCounter
from edgeq.errors import DriftError, EngineError, InvalidRequestError
from edgeq.files import sha256_bytes
from edgeq.tflite.model import Model

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

DUTY = 1 / 200  # of one core's time: twice as much would be seen in the requests' p99


@dataclass(frozen=True)
class Watched:
    """What a bundle says of its version; without the INT8 model no activation is looked at."""

    reference: bytes  # drift.npz
    int8: bytes | None = None
    ranges: Mapping[str, TensorRange] | None = None  # as calibrated, by tensor


@dataclass(frozen=True)
class Health:
    """What was wrong with the frames of one input since the version was published."""

    tensor: str
    frames: int
    faults: Mapping[str, int]  # frames, by fault
    identical_frames: int  # in a row up to now, that were as the one before them
    identical_s: float  # for how long


class StreamWatch:
    """Everything that is watched of one version.

    Args:
        watched: what it is compared with.
        options: of the windows.
        clock: seconds.
    """

    def __init__(
        self,
        watched: Watched,
        options: DriftOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        reference = DriftReference.from_npz(watched.reference)
        self._digest = sha256_bytes(watched.reference)
        self._counter = StreamCounter(reference.streams)
        self._monitor = DriftMonitor(reference, options)
        self._health = healths_of(reference)
        ranges = {name: row for name, row in (watched.ranges or {}).items() if name in self._health}
        self._scales = ScaleWatch(ranges, options.window)
        self._clock = clock
        self._interval_s = options.activation_interval_s
        self._is_tapping = watched.int8 is not None and self._interval_s > 0.0
        self._int8, self._streams = watched.int8, reference.streams
        self._tapped: Tapped | None = None
        self._next_tap = clock()
        self._faults_taken: dict[tuple[str, str], int] = {}
        self.frames = 0  # seen by this watch
        self.problem = ""  # why no activation is looked at, where one should be

    # ---- on the capture thread

    def see(self, inputs: Arrays, outputs: Arrays) -> None:
        """Take one answered frame in; the inputs are kept until the next one comes."""
        counts = self._counter.count(inputs, outputs)
        _give_way()
        self._monitor.add(counts)
        _give_way()
        self.frames += 1
        now, complaints = self._clock(), {}
        for name, health in self._health.items():
            if name in inputs and inputs[name].size:
                found = health.look(inputs[name], counts, now)
                complaints.update({f"{name}/{fault}": is_so for fault, is_so in found.items()})
        self._monitor.add_health(complaints)
        _give_way()
        self._scales.add(inputs)
        if self._is_tapping and self._clock() >= self._next_tap:
            self._tap(inputs)

    def _tap(self, inputs: Arrays) -> None:
        started = self._clock()
        try:
            tapped = self._tapped or self._open()
            if tapped is not None:
                self._monitor.add(tapped.run(inputs).counts)
        except (EngineError, InvalidRequestError) as error:  # what serves does not depend on it
            self._is_tapping, self.problem = False, error.message
        ended = self._clock()
        self._next_tap = max(started + self._interval_s, ended + (ended - started) / DUTY)

    def _open(self) -> Tapped | None:
        """Load the INT8 model at the first frame: where none comes, it costs no memory."""
        assert self._int8 is not None
        int8, self._int8 = Model.from_bytes(self._int8), None
        tensors = tensors_of(int8, self._streams)
        self._is_tapping = bool(tensors)
        self._tapped = Tapped(int8, tensors, threads=1) if tensors else None
        return self._tapped

    def close(self) -> None:
        """Look at no more activations; a run that is under way ends with its interpreter."""
        self._is_tapping, self._tapped = False, None

    # ---- on the deploy thread

    def check(self) -> DriftState:
        """Compare the windows with the reference."""
        state, ratios = self._monitor.check(), self._scales.ratios()
        tensors = tuple(_with_scale(tensor, ratios) for tensor in state.tensors)
        return replace(state, tensors=tensors)

    def health(self) -> tuple[Health, ...]:
        """Return what was wrong with the frames of every input."""
        now = self._clock()
        return tuple(
            Health(
                tensor=name,
                frames=known.frames,
                faults=dict(known.faults),
                identical_frames=known.identical_frames,
                identical_s=now - known.identical_since if known.identical_frames else 0.0,
            )
            for name, known in self._health.items()
        )

    def take_faults(self) -> dict[tuple[str, str], int]:
        """Return how many frames had each fault of each input since this was last asked."""
        now = {(n, f): c for n, h in self._health.items() for f, c in h.faults.items()}
        new = {key: count - self._faults_taken.get(key, 0) for key, count in now.items()}
        self._faults_taken = now
        return new

    # ---- over a restart

    def to_npz(self) -> bytes:
        """Return what `restore` takes."""
        faults = {name: known.faults for name, known in self._health.items()}
        frames = {name: known.frames for name, known in self._health.items()}
        monitor, scales = self._monitor.to_npz(), self._scales.to_npz()
        return to_npz(Kept(self._digest, monitor, scales, frames, faults))

    def restore(self, content: bytes) -> bool:
        """Take up what `to_npz` gave; False where it was of another reference.

        Raises:
            DriftError, CalibrationError: it is damaged.
        """
        kept = from_npz(content)
        if kept.reference != self._digest:
            return False
        self._scales.restore(kept.scales)
        if not self._monitor.restore(kept.monitor):
            raise DriftError("the kept drift windows do not fit their reference", hint=HINT)
        for name, known in self._health.items():
            known.frames = kept.frames.get(name, 0)
            known.faults.update(kept.faults.get(name, {}))
        self.take_faults()  # these were told of before
        return True


def _give_way() -> None:
    """Let a waiting request have the interpreter: for 0.3 ms at a time it would be seen."""
    time.sleep(0)


def _with_scale(tensor: TensorDrift, ratios: Mapping[str, float]) -> TensorDrift:
    """Where calibration's own rule was asked, its answer stands."""
    if tensor.kind != "input" or tensor.tensor not in ratios:
        return tensor
    return replace(tensor, scale_ratio=ratios[tensor.tensor])
