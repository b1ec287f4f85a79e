from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CalibrationError
from edgeq.samples.split import SELECTION_LEAST_FIT, SELECTION_MOST, only, split_samples
from edgeq.samples.store import Sample, is_held_out, sample_id


def samples(values: list[float]) -> list[Sample]:
    inputs = [{"x": np.full((1, 2), value, np.float32)} for value in values]
    return [Sample(sample_id(i), i) for i in inputs]


counts = st.integers(2, 300)
ratios = st.floats(0.01, 0.99)


@given(counts, ratios)
def test_every_sample_is_in_one_set_and_no_set_is_empty(count, ratio):
    given_samples = samples(list(map(float, range(count))))
    split = split_samples(lambda: iter(given_samples), ratio)
    assert split.fit
    assert split.select
    assert split.held_out
    assert split.all == {sample.id for sample in given_samples}
    assert not split.held_out & (split.fit | split.select)


@given(counts, ratios, st.randoms())
def test_the_sets_do_not_depend_on_the_order_or_on_repeats(count, ratio, random):
    given_samples = samples(list(map(float, range(count))))
    shuffled = [*given_samples, *given_samples[: count // 2]]
    random.shuffle(shuffled)
    split = split_samples(lambda: iter(given_samples), ratio)
    assert split_samples(lambda: iter(shuffled), ratio) == split


@given(st.integers(40, 300))
def test_with_enough_samples_the_choice_has_samples_of_its_own(count):
    split = split_samples(lambda: iter(samples(list(map(float, range(count))))), 0.25)
    assert not split.fit & split.select
    assert len(split.select) <= SELECTION_MOST


def test_with_few_samples_the_choice_shares_those_of_calibration():
    split = split_samples(lambda: iter(samples([1.0, 2.0, 3.0])), 0.25)
    assert len(split.fit) < SELECTION_LEAST_FIT
    assert split.select == split.fit


def test_what_is_held_out_stays_so_when_more_samples_come():
    few = samples(list(map(float, range(100))))
    many = samples(list(map(float, range(200))))
    before = split_samples(lambda: iter(few), 0.25).held_out
    after = split_samples(lambda: iter(many), 0.25).held_out
    assert before < after
    assert all(is_held_out(id, 0.25) for id in after)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_in_no_set(bad):
    given_samples = samples([1.0, 2.0, bad])
    split = split_samples(lambda: iter(given_samples), 0.5)
    assert split.unusable == (given_samples[2].id,)
    assert split.all == {sample.id for sample in given_samples[:2]}


def test_whole_numbers_are_always_finite():
    inputs = [{"x": np.array([[value]], np.int32)} for value in (1, 2)]
    split = split_samples(lambda: (Sample(sample_id(i), i) for i in inputs), 0.5)
    assert split.unusable == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "there are 0 samples; a build needs two or more"),
        ([1.0], "there are 1 sample; a build needs two or more"),
        ([1.0, 1.0], "there are 1 sample;"),
        ([1.0, np.nan], r"there are 1 sample \(1 more hold NaN or infinity\);"),
    ],
)
def test_fewer_than_two_different_finite_samples_are_an_error(values, message):
    with pytest.raises(CalibrationError, match=message) as caught:
        split_samples(lambda: iter(samples(values)), 0.25)
    assert caught.value.hint


def test_only_reads_no_further_than_the_last_one_asked_for():
    given_samples = samples([1.0, 2.0, 3.0])
    read: list[str] = []

    def source():
        for sample in given_samples:
            read.append(sample.id)
            yield sample

    wanted = frozenset({given_samples[0].id})
    assert [sample.id for sample in only(source, wanted)] == [given_samples[0].id]
    assert read == [given_samples[0].id]


def test_only_gives_a_repeated_sample_once():
    (sample,) = samples([1.0])
    other = samples([2.0])[0]
    ids = frozenset({sample.id, other.id})
    found = list(only(lambda: iter([sample, sample, other]), ids))
    assert [s.id for s in found] == [sample.id, other.id]
