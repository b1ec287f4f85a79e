"""Which values of a large tensor are counted: enough, evenly spread, the same in every frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.calibrate.thinning import COUNTED, SHARE, Thinning


@given(st.integers(0, 3_000_000))
def test_about_as_many_are_counted_as_wanted(size: int) -> None:
    thinning = Thinning.to(size)
    wanted = min(size, COUNTED + max(0, size - COUNTED) // SHARE)
    assert thinning.blocks * thinning.block <= size
    assert 0.8 * wanted <= thinning.kept <= wanted


@given(st.integers(0, 200_000), st.integers(1, 3))
def test_the_counted_values_are_a_view_of_their_frames(size: int, frames: int) -> None:
    thinning = Thinning.to(size)
    rows = np.zeros((frames, size), np.float32)
    counted = thinning.of(rows)
    assert counted.shape == (frames, *thinning.shape)
    assert counted.base is not None


def test_small_tensors_are_counted_whole() -> None:
    rows = np.arange(2 * 1000, dtype=np.float32).reshape(2, 1000)
    np.testing.assert_array_equal(Thinning.to(1000).of(rows).reshape(2, -1), rows)


@pytest.mark.parametrize("channels", [3, 16, 21, 24, 96, 320])
def test_every_channel_is_met_alike(channels: int) -> None:
    values = np.broadcast_to(np.arange(channels), (64, 64, channels)).reshape(1, -1)
    met = np.bincount(Thinning.to(values.size).of(values).reshape(-1), minlength=channels)
    assert met.max() <= 1.2 * met.min()


@pytest.mark.parametrize("channels", [1, 8, 64])
def test_every_row_and_column_is_met(channels: int) -> None:
    places = np.arange(96 * 96).repeat(channels).reshape(1, -1)
    met = Thinning.to(places.size).of(places).reshape(-1)
    assert np.unique(met // 96).size == np.unique(met % 96).size == 96
