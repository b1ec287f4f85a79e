"""A table made before -> a calibration to build from, without running the model again.

Three files are understood: a table and the histograms beside it (every method can still choose), a
table alone (its ranges as they are), and TensorRT's calibration cache (symmetric thresholds).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeq.calibrate.archive import histograms_from_npz
from edgeq.calibrate.collect import Collection
from edgeq.calibrate.table import CalibrationTable, TensorRange, read_tensorrt_cache
from edgeq.errors import CalibrationError

TENSORRT_MAGIC = b"TRT-"
TENSORRT = "tensorrt"  # the method of ranges that TensorRT chose
_UNKNOWN = 0.0


@dataclass(frozen=True)
class Calibration:
    """Ranges from elsewhere; `collection` holds the histograms, where they came along."""

    table: CalibrationTable
    collection: Collection | None


def read_calibration(
    table: bytes, histograms: bytes | None, model_sha256: str, names: Iterable[str]
) -> Calibration:
    """Return what a table file and the .npz beside it hold, checked against the model.

    Args:
        table: a table's JSON, or the text of a TensorRT calibration cache.
        histograms: the .npz beside a table; None where there is none.
        model_sha256: of the float model that is to be built.
        names: of its tensors, as `Model.names` gives them.

    Raises:
        CalibrationError: it is of another model, or is none of these files.
    """
    if table.startswith(TENSORRT_MAGIC):
        return Calibration(_of_cache(table, model_sha256, set(names)), None)
    read = CalibrationTable.from_json(table)
    if read.model_sha256 != model_sha256:
        raise CalibrationError(
            f"the calibration table is of model {read.model_sha256[:12]}; "
            f"this model is {model_sha256[:12]}",
            hint="Calibrate this model: ranges of another one do not fit.",
        )
    if histograms is None:
        return Calibration(read, None)
    parts = histograms_from_npz(histograms)
    if set(parts) != set(read.tensors):
        raise CalibrationError(
            f"the histograms hold {len(parts)} tensors, not the {len(read.tensors)} of the table",
            hint="Copy both files of one calibration together.",
        )
    ordered = {name: parts[name] for name in read.tensors}
    return Calibration(read, Collection(ordered, read.samples, ()))


def _of_cache(content: bytes, model_sha256: str, names: set[str]) -> CalibrationTable:
    """A cache says nothing of the model it is from, so that its names must all be here."""
    try:
        thresholds = read_tensorrt_cache(content.decode())
    except UnicodeDecodeError as error:
        raise CalibrationError(f"the TensorRT calibration cache is not text: {error}") from error
    strange = sorted(set(thresholds) - names)
    if strange or not thresholds:
        raise CalibrationError(
            f"the TensorRT calibration cache names {len(strange)} of {len(thresholds)} tensors "
            f"that the model has not, such as {strange[:1]}",
            hint="Give the cache of this very model, with its tensor names.",
        )
    rows = {
        name: TensorRange(
            lo=-amax, hi=amax, method=TENSORRT, divergence=_UNKNOWN, clipped_ratio=_UNKNOWN,
            min=-amax, max=amax,
        )
        for name, amax in thresholds.items()
    }  # fmt: skip
    return CalibrationTable(model_sha256, TENSORRT, 0, rows)
