from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeq.drift.statistics import (
    Distances,
    binned,
    deciding_statistic,
    hellinger,
    js_distance,
    kl_divergence,
    ks_statistic,
    psi,
    sturges_bins,
    wasserstein_ratio,
)

CODE = np.arange(256)


def bell(center: float, width: float, height: float) -> np.ndarray:
    return np.floor(height * np.exp(-(((CODE - center) / width) ** 2) / 2)).astype(np.int64)


def few(*pairs: tuple[int, int]) -> np.ndarray:
    counts = np.zeros(256, np.int64)
    for code, count in pairs:
        counts[code] = count
    return counts


CASES = {
    "bells": (bell(120, 30, 1000), bell(132, 36, 700)),
    "a narrow bell and its tail": (bell(40, 4, 3000), bell(40, 4, 3000) + few((200, 3))),
    "saturated": (bell(128, 50, 200), bell(90, 60, 200) + few((0, 4000))),
    "few values": (few((0, 50), (7, 30), (9, 1)), few((0, 40), (9, 12), (11, 2))),
    "rare values": (few((0, 50000), (7, 30), (9, 1)), few((0, 40), (9, 12), (11, 2))),
    "classes": (few(*((c, 10 + c) for c in range(30))), few(*((c, 40 - c) for c in range(5, 32)))),
}
# What Evidently 0.7.23 gives for the code values as float64: psi, jensenshannon, kl_div, hellinger,
# and of numbers wasserstein (normed) and the statistic of scipy's ks_2samp.
EVIDENTLY = {
    "bells": (0.21191176752896737, 0.15267328794847843, 0.08402581765801606,
              0.1509245359037524, 0.40395302845271774, 0.1597114144440599),
    "a narrow bell and its tail": (0.0014881873814863093, 0.00588078864538829,
                                   9.978825108098004e-05, 0.0070635080196929335,
                                   0.003996815162239861, 9.978380176289825e-05),
    "saturated": (0.8434570048559417, 0.2930742315202177, 0.3065934079351345,
                  0.2948896931730504, 0.8918943269093594, 0.3137172486581803),
    "few values": (3.8901387412718136, 0.4484622426283566, 2.894257498854864,
                   0.5169374267184718, 0.41622804259536705, 0.24691358024691357),
    "rare values": (2.9388338473795397, 0.3156110931902902, 0.30028702054552137,
                    0.37057701102172913, 13.652342059475366, 0.259239271651576),
    "classes": (0.9143318597797447, 0.28383193899702863, 0.5327537430532066,
                0.31396920002946915),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_figures_are_those_of_evidently(name):
    reference, live = CASES[name]
    is_categorical = name == "classes"
    expected = EVIDENTLY[name]
    for statistic, value in zip(
        (psi, js_distance, kl_divergence, hellinger), expected, strict=False
    ):
        measured = statistic(reference, live, is_categorical=is_categorical)
        assert measured == pytest.approx(value, rel=1e-9, abs=1e-9), statistic.__name__
    if not is_categorical:
        assert wasserstein_ratio(reference, live) == pytest.approx(expected[4], rel=1e-9)
        assert ks_statistic(reference, live) == pytest.approx(expected[5], rel=1e-9)


def test_all_at_once_are_those_one_by_one():
    reference, live = CASES["bells"]
    assert Distances.between(reference, live) == Distances(
        psi=psi(reference, live),
        js_distance=js_distance(reference, live),
        hellinger=hellinger(reference, live),
        wasserstein_ratio=wasserstein_ratio(reference, live),
        ks_ratio=ks_statistic(reference, live),
    )
    classes = Distances.between(*CASES["classes"], is_categorical=True)
    assert classes.wasserstein_ratio is None
    assert classes.ks_ratio is None


counts = arrays(np.int64, 256, elements=st.integers(0, 3), fill=st.just(0)).filter(
    lambda a: a.any()
)


@given(counts, counts, st.booleans())
def test_what_should_be_symmetric_is(reference, live, is_categorical):
    for distance in (js_distance, hellinger):
        if is_categorical or distance is hellinger:
            there = distance(reference, live, is_categorical=is_categorical)
            back = distance(live, reference, is_categorical=is_categorical)
            assert there == pytest.approx(back, abs=1e-9)
    there = psi(reference, live, is_categorical=True)
    assert there == pytest.approx(psi(live, reference, is_categorical=True), rel=1e-9, abs=1e-9)
    assert ks_statistic(reference, live) == pytest.approx(ks_statistic(live, reference))


@given(counts, st.integers(1, 7), st.booleans())
def test_equal_shares_are_no_distance(reference, times, is_categorical):
    live = reference * times
    for statistic in (psi, js_distance, kl_divergence, hellinger):
        # of a share of 1 less its own sum the root is 1e-8
        assert statistic(reference, live, is_categorical=is_categorical) < 1e-7
    assert wasserstein_ratio(reference, live) < 1e-9
    assert ks_statistic(reference, live) < 1e-12


@given(counts, counts)
def test_every_figure_is_finite_and_within_its_range(reference, live):
    figures = Distances.between(reference, live)
    assert 0 <= figures.psi < math.inf
    assert 0 <= figures.js_distance <= math.sqrt(math.log(2)) + 1e-9
    assert 0 <= figures.hellinger <= 1
    assert figures.ks_ratio is not None
    assert 0 <= figures.ks_ratio <= 1 + 1e-12


def test_up_to_20_distinct_values_are_categories_and_more_are_binned():
    of_20, of_21 = few(*((c, 1) for c in range(20))), few(*((c, 1) for c in range(21)))
    assert len(binned(of_20, of_21)[0]) == 21
    assert len(binned(of_21, of_20)[0]) == math.ceil(np.log2(41) + 1)


def test_bins_are_those_of_numpy_s_histogram():
    values = np.repeat(CODE, CASES["bells"][0]).astype(np.float64)
    edges = np.histogram_bin_edges(values, "sturges")
    bins, count = sturges_bins(CASES["bells"][0] > 0, len(values))
    assert count == len(edges) - 1
    assert np.array_equal(
        np.bincount(bins, CASES["bells"][0], count), np.histogram(values, edges)[0]
    )


def test_what_has_one_value_in_all_is_one_bin():
    bins, count = sturges_bins(few((7, 3)) > 0, 3)
    assert count == 1
    assert not bins.any()


def test_each_kind_of_stream_has_its_deciding_statistic():
    assert deciding_statistic("input") == deciding_statistic("activation") == "psi"
    assert deciding_statistic("scalar") == "wasserstein_ratio"
    assert deciding_statistic("classes") == "js_distance"
