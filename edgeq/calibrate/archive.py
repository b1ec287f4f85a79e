"""Histograms <-> the .npz that travels beside a table, so that several boxes' can be merged."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS, LOWEST_EXPONENT, Histogram
from edgeq.errors import CalibrationError

Array = npt.NDArray[Any]

ZIP_MAGIC = b"PK"
_HINT = "Use the .npz that `edgeq calibrate` wrote beside its table."

_FIELDS = ("bins", "exponent", "min", "max", "nonfinite")


def histograms_to_npz(histograms: Mapping[str, Histogram]) -> bytes:
    """Return named histograms as a compressed .npz; the same histograms give the same bytes."""
    file = io.BytesIO()
    np.savez_compressed(file, **stack(histograms))  # type: ignore[arg-type] # numpy's stub
    return file.getvalue()


def histograms_from_npz(content: bytes) -> dict[str, Histogram]:
    """Return the histograms of a .npz.

    Raises:
        CalibrationError: it is damaged, or is not what `histograms_to_npz` writes.
    """
    if not content.startswith(ZIP_MAGIC):
        raise CalibrationError("the histograms cannot be read: not a .npz file", hint=_HINT)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            # What is not a .npy inside comes as bytes; as an array it is of no type that is read.
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
    except Exception as error:  # zipfile, zlib, tokenize and numpy each raise their own
        raise CalibrationError(f"the histograms cannot be read: {error}", hint=_HINT) from error
    return unstack(arrays)


def stack(histograms: Mapping[str, Histogram]) -> dict[str, Array]:
    """Return named histograms as arrays: one row per tensor, and the names."""
    rows = list(histograms.values())
    return {
        "names": np.array(list(histograms), np.str_),
        "bins": np.array([h.bins for h in rows], np.int64).reshape(-1, 2 * BINS),
        "exponent": np.array([h.exponent for h in rows], np.int64),
        "min": np.array([h.min for h in rows], np.float64),
        "max": np.array([h.max for h in rows], np.float64),
        "nonfinite": np.array([h.nonfinite for h in rows], np.int64),
    }


def unstack(arrays: Mapping[str, Array]) -> dict[str, Histogram]:
    """Return the histograms that `stack` made arrays of.

    Raises:
        CalibrationError: an array is missing, or is not what `stack` writes.
    """
    names = _array(arrays, "names", ())
    columns = {
        field: _array(arrays, field, (names.size, 2 * BINS) if field == "bins" else (names.size,))
        for field in _FIELDS
    }
    if (columns["bins"] < 0).any() or (columns["nonfinite"] < 0).any():
        raise CalibrationError("the histograms have negative counts", hint=_HINT)
    return {
        str(name): _row({field: columns[field][row] for field in _FIELDS})
        for row, name in enumerate(names)
    }


def _row(fields: Mapping[str, Any]) -> Histogram:
    histogram = Histogram()
    histogram.bins = np.array(fields["bins"], np.int64)
    histogram.exponent = int(fields["exponent"])
    histogram.min, histogram.max = float(fields["min"]), float(fields["max"])
    histogram.nonfinite = int(fields["nonfinite"])
    if not LOWEST_EXPONENT <= histogram.exponent <= 128:
        raise CalibrationError(
            f"a histogram has the range 2**{histogram.exponent}; "
            f"it must lie between 2**{LOWEST_EXPONENT} and 2**128",
            hint=_HINT,
        )
    _check_extrema(histogram)
    return histogram


def _check_extrema(histogram: Histogram) -> None:
    reach = math.ldexp(1.0, histogram.exponent)
    is_empty = histogram.min == math.inf and histogram.max == -math.inf
    fits = -reach <= histogram.min <= histogram.max < reach
    if not fits and not (is_empty and histogram.count == 0):
        raise CalibrationError(
            f"a histogram over [-{reach}, {reach}) has the extrema "
            f"{histogram.min} and {histogram.max}",
            hint=_HINT,
        )


def _array(arrays: Mapping[str, Array], key: str, shape: tuple[int, ...]) -> Array:
    if key not in arrays:
        raise CalibrationError(f"the histograms have no array {key!r}", hint=_HINT)
    array = arrays[key]
    kinds = {"names": "U", "min": "f", "max": "f"}
    if array.dtype.kind != kinds.get(key, "i") or (shape and array.shape != shape):
        raise CalibrationError(
            f"array {key!r} of the histograms is {array.dtype} {list(array.shape)}", hint=_HINT
        )
    return array


def merge_histograms(parts: Iterable[Mapping[str, Histogram]]) -> dict[str, Histogram]:
    """Return one histogram per tensor name, with the counts of every part."""
    merged: dict[str, list[Histogram]] = {}
    for part in parts:
        for name, histogram in part.items():
            merged.setdefault(name, []).append(histogram)
    return {name: Histogram.sum_of(histograms) for name, histograms in merged.items()}
