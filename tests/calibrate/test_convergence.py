"""Calibration stops where more samples would not change the ranges, and not before."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.calibrate.archive import histograms_to_npz
from edgeq.calibrate.collect import collect
from edgeq.calibrate.convergence import Convergence, change, groups, is_checkpoint, thresholds
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.samples.store import Sample, sample_id
from tests.tiny import one_op_model, tiny_inputs, tiny_model


def samples_of(count: int, spread: float = 1.0) -> list[Sample]:
    """Random images in the order of their ids; `spread` is how much brighter each is."""
    images = [tiny_inputs(seed)["image"] * np.float32(spread**seed) for seed in range(count)]
    samples = [Sample(sample_id({"image": image}), {"image": image}) for image in images]
    return sorted(samples, key=lambda sample: sample.id)


def test_it_is_looked_at_each_time_the_number_has_doubled() -> None:
    asked = [n for n in range(1, 300) if is_checkpoint(n, Convergence(first=16))]
    assert asked == [16, 32, 64, 128, 256]


def test_change_is_the_mean_over_the_tensors() -> None:
    assert change({"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 2.0, "b": 1.5, "c": 0.0}) == 0.375
    assert change({}, {"a": 1.0}) == 1.0
    assert change({"a": 0.0}, {"a": 0.0}) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_a_threshold_holds_what_the_range_holds(method: str) -> None:
    histogram = Histogram()
    histogram.add(np.array([-3, 1, 2], np.float32))
    assert thresholds({"x": histogram}, method)["x"] == pytest.approx(3, rel=0.01)


def test_alike_samples_are_enough_soon() -> None:
    samples, done = samples_of(200), []
    stopped = collect(tiny_model(), samples, convergence=Convergence(0.2), progress=done.append)
    assert stopped.is_converged
    assert stopped.samples == len(done) == 32
    assert stopped.histograms == collect(tiny_model(), samples[:32]).histograms


def test_a_smaller_tolerance_takes_more_samples() -> None:
    used = [
        collect(tiny_model(), samples_of(300), convergence=Convergence(tolerance)).samples
        for tolerance in (0.2, 0.02, 0.0)
    ]
    assert used == sorted(used)
    assert used[-1] == 300


def test_it_reads_no_further_than_it_needs() -> None:
    def stream() -> Iterator[Sample]:
        yield from samples_of(40)[:32]
        raise AssertionError("a 33rd sample was asked for")

    assert collect(tiny_model(), stream(), convergence=Convergence(0.2)).samples == 32


def test_without_the_option_every_sample_is_used() -> None:
    collection = collect(tiny_model(), samples_of(80))
    assert (collection.samples, collection.is_converged) == (80, False)


def test_samples_that_differ_more_and_more_do_not_converge() -> None:
    samples = [Sample(f"{i:03}", {"x": np.full((1, 4), 1.2**i, np.float32)}) for i in range(70)]
    collection = collect(one_op_model(), samples, convergence=Convergence(), screening=None)
    assert (collection.samples, collection.is_converged) == (70, False)


def in_parts(samples: list[Sample], convergence: Convergence) -> Iterator[Sample]:
    for part in groups([sample.id for sample in samples], convergence):
        yield from (sample for sample in samples if sample.id in part)


def test_the_same_set_stops_at_the_same_sample_however_it_came() -> None:
    samples, expected, convergence = samples_of(200), None, Convergence(0.1)
    for seed in range(3):
        random.Random(seed).shuffle(samples)
        given = in_parts(samples, convergence)
        collection = collect(tiny_model(), given, convergence=convergence)
        got = (collection.samples, histograms_to_npz(collection.histograms))
        assert expected in (None, got)
        expected = got


def test_parts_end_where_it_is_asked_and_hold_every_id_once() -> None:
    ids = [f"{n:03}" for n in range(100)]
    parts = list(groups(reversed(ids), Convergence(first=16)))
    assert [len(part) for part in parts] == [16, 16, 32, 36]
    assert sorted(i for part in parts for i in part) == ids
    assert max(parts[0]) < min(parts[1])


def test_a_glitch_does_not_keep_calibration_from_stopping() -> None:
    samples = samples_of(200)
    glitch = samples[20].inputs["image"] * np.float32(40)
    samples[20] = Sample(samples[20].id, {"image": glitch})
    collection = collect(tiny_model(), samples, convergence=Convergence(0.2))
    assert [d.id for d in collection.dropped] == [samples[20].id]
    assert (collection.samples, collection.is_converged) == (31, True)


def test_where_no_sample_is_usable_yet_it_goes_on() -> None:
    bad = [Sample(f"a{i:02}", {"x": np.full((1, 4), np.nan, np.float32)}) for i in range(32)]
    good = [Sample(f"b{i:02}", {"x": np.ones((1, 4), np.float32)}) for i in range(40)]
    collection = collect(one_op_model(), [*bad, *good], convergence=Convergence())
    assert collection.samples == 40
