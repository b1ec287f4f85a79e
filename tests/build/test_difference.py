from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.build.difference import (
    CHANCE,
    Comparison,
    Difference,
    as_dict,
    refusal,
    sign_test,
    swap_test,
)

SAME = Difference(samples=40, gained=0, lost=0, gain_db=0.0, chance=0.5)
QUIETER = Difference(samples=16, gained=0, lost=0, gain_db=2.0, chance=0.001)


@pytest.mark.parametrize(
    ("ups", "downs", "chance"), [(0, 0, 1.0), (5, 0, 1 / 32), (4, 0, 1 / 16), (7, 1, 9 / 256)]
)
def test_the_sign_test_is_that_of_a_coin(ups, downs, chance):
    assert sign_test(ups, downs) == pytest.approx(chance)


energies = st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=8)


@given(energies)
def test_few_pairs_are_tried_both_ways_round_in_every_way(pairs):
    before, after = np.asarray(pairs).T
    ways = [
        10 * np.log10(np.where(swap, after, before).sum() / np.where(swap, before, after).sum())
        for swap in itertools.product((False, True), repeat=len(pairs))
    ]
    gain_db, chance = swap_test(before, after)
    assert gain_db == pytest.approx(ways[0], abs=1e-9)
    assert chance == pytest.approx(np.mean(np.asarray(ways) >= ways[0] - 1e-9))


def test_equal_engines_are_called_different_about_as_often_as_is_granted():
    draw = np.random.default_rng(1)
    for count in (6, 16, 64):
        found = [swap_test(*draw.chisquare(2, (2, count)))[1] <= CHANCE for _ in range(150)]
        assert np.mean(found) < 2 * CHANCE


def test_a_third_of_the_noise_on_sixteen_samples_is_found():
    draw = np.random.default_rng(1)
    found = [
        swap_test(3 * draw.chisquare(4, 16), draw.chisquare(4, 16))[1] <= CHANCE for _ in range(50)
    ]
    assert np.mean(found) > 0.9


def test_nothing_to_compare_by_is_chance():
    assert swap_test(np.zeros(0), np.zeros(0)) == (0.0, 1.0)
    assert swap_test(np.zeros(5), np.zeros(5)) == (0.0, 1.0)
    assert swap_test(np.ones(40), np.ones(40)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("new", "old", "reason"),
    [
        (QUIETER, SAME, ""),
        (Difference(16, 6, 0, -1.0, 0.9), SAME, ""),  # the choices are what counts
        (Difference(0, 0, 0, 0.0, 1.0), SAME, "none of the new samples is held out"),
        (SAME, SAME, r"no better by more than chance where the inputs changed: \+0.0 dB on 40"),
        (Difference(16, 0, 0, 0.4, 0.001), SAME, "no better"),  # sure, but not worth a swap
        (Difference(16, 0, 0, 3.0, 0.2), SAME, "no better"),  # large, but of one sample
        (Difference(16, 1, 2, 3.0, 0.001), SAME, "1 choices gained, 2 lost"),
        (QUIETER, Difference(90, 1, 8, 0.0, 0.5), "chooses worse on the samples from before"),
        (Difference(16, 9, 0, 9.0, 0.001), Difference(90, 0, 9, 0, 1.0), "chooses worse"),
        (QUIETER, Difference(90, 0, 0, -5.0, 1.0), "loses more on the samples from before"),
        (QUIETER, Difference(90, 0, 0, -1.5, 1.0), ""),
        (QUIETER, Difference(0, 0, 0, 0.0, 1.0), ""),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(new, old, reason):
    if not reason:
        assert refusal(new, old) == ""
    else:
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(refusal(new, old))


def test_the_figures_go_into_the_verdict():
    assert as_dict(None) is None
    found = as_dict(Comparison(QUIETER, SAME))
    assert found == {
        "new": {"samples": 16, "gained": 0, "lost": 0, "gain_db": 2.0, "chance": 0.001},
        "old": {"samples": 40, "gained": 0, "lost": 0, "gain_db": 0.0, "chance": 0.5},
    }
