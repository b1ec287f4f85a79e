"""Counting many rows at once gives what counting each alone gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import edgeq.calibrate.binning as module
from edgeq.calibrate.binning import Binner
from edgeq.calibrate.histogram import Histogram

values = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-4, 4, width=32),
    st.floats(0, 6, width=32),
    st.sampled_from([0.0, -0.0, 2047.9999, -1e-45, 3e38]),
)
rows_of = arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 40)), elements=values)


def counted(rows: np.ndarray, owners: list[int], histograms: int) -> list[Histogram]:
    totals = [Histogram() for _ in range(histograms)]
    for owner, row in zip(owners, rows, strict=True):
        totals[owner].cover(float(row.min()) + 0.0, float(row.max()) + 0.0)
    Binner().count(totals, np.array(owners), rows, is_signed=bool(rows.min() < 0))
    return totals


def expected(rows: np.ndarray, owners: list[int], histograms: int) -> list[Histogram]:
    totals = [Histogram() for _ in range(histograms)]
    for owner, row in zip(owners, rows, strict=True):
        totals[owner].add(row)
    return totals


@given(rows_of, st.data())
@settings(deadline=None)
def test_rows_are_counted_as_one_by_one(rows: np.ndarray, data: st.DataObject) -> None:
    owners = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    assert counted(rows, owners, 3) == expected(rows, owners, 3)


@pytest.mark.parametrize("shape", [(2, 300), (9, 30), (5, 10, 3), (1, 1000)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_more_values_than_a_chunk_are_all_counted(
    shape: tuple[int, ...], sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rows = rows if sign < 0 else np.abs(rows)
    owners = [i % 2 for i in range(len(rows))]
    assert counted(rows, owners, 2) == expected(rows.reshape(len(rows), -1), owners, 2)


def test_every_other_value_may_be_counted() -> None:
    rows = np.arange(40, dtype=np.float32).reshape(2, 20)
    assert counted(rows[:, ::2], [0, 0], 1) == expected(rows[:, ::2], [0, 0], 1)
