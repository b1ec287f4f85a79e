"""Histograms come back from their .npz as they were, or not at all."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeq.calibrate.archive import (
    histograms_from_npz,
    histograms_to_npz,
    merge_histograms,
    stack,
)
from edgeq.calibrate.histogram import Histogram
from edgeq.errors import CalibrationError

floats = arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32))
names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)


def histogram_of(values: Any) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


@given(st.dictionaries(names, floats, max_size=4))
@settings(deadline=None)
def test_histograms_come_back_as_they_were(values: dict[str, np.ndarray]) -> None:
    histograms = {name: histogram_of(v) for name, v in values.items()}
    content = histograms_to_npz(histograms)
    restored = histograms_from_npz(content)
    assert list(restored) == list(histograms)
    assert restored == histograms
    assert histograms_to_npz(restored) == content


@given(st.lists(st.dictionaries(st.sampled_from("abc"), floats, max_size=3), max_size=4))
@settings(deadline=None)
def test_merging_parts_equals_counting_at_once(parts: list[dict[str, np.ndarray]]) -> None:
    histograms = [{name: histogram_of(v) for name, v in part.items()} for part in parts]
    merged = merge_histograms(histograms)
    for name in {name for part in parts for name in part}:
        every = [part[name] for part in parts if name in part]
        assert merged[name] == histogram_of(np.concatenate(every))
    assert histograms == [{n: histogram_of(v) for n, v in part.items()} for part in parts]


def npz(**changes: Any) -> bytes:
    arrays = {**stack({"x": histogram_of([1.0, -2.0])}), **changes}
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return file.getvalue()


def of_bytes() -> bytes:
    """A member that is no .npy, which np.load gives as bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("names.npy", b"no array")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (of_bytes(), r"'names' .* is \|S8"),
        (b"PK\x03\x04 torn", "cannot be read"),
        (npz()[:300], "cannot be read"),
        (npz(names=np.array([{}], object)), "cannot be read"),
        (npz(bins=None), "no array 'bins'"),
        (npz(names=None), "no array 'names'"),
        (npz(bins=np.zeros((1, 7), np.int64)), r"'bins' .* is int64 \[1, 7\]"),
        (npz(max=np.array([1])), "'max' .* is int64"),
        (npz(bins=np.full((1, 4096), -1)), "negative counts"),
        (npz(exponent=np.array([400])), r"2\*\*400"),
        (npz(max=np.array([np.nan])), "extrema"),
        (npz(min=np.array([-900.0])), "extrema"),
        (npz(min=np.array([np.inf]), max=np.array([-np.inf])), "extrema"),
    ],
)
def test_a_damaged_archive_is_an_error(content: bytes, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as caught:
        histograms_from_npz(content)
    assert caught.value.hint


def test_a_bare_array_is_not_an_archive() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    with pytest.raises(CalibrationError):
        histograms_from_npz(file.getvalue())
