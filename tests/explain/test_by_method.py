"""A model by every method, on a few inputs."""

from __future__ import annotations

import numpy as np

from edgeq.calibrate.collect import collect
from edgeq.calibrate.methods import METHODS
from edgeq.explain.by_method import sqnr_by_method
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import dense, heavy_tailed
from tests.tiny import Array


def measured(weights: Array, count: int) -> dict[str, float]:
    model, samples = dense(weights), heavy_tailed(count, (1, weights.shape[1]))
    histograms = collect(model, samples, screening=None).histograms
    return sqnr_by_method(model, histograms, [sample.inputs for sample in samples[:4]])


def test_each_method_is_measured():
    model, samples = tiny.tiny_model(), drawn(8, image=(1, 8, 8, 3))
    histograms = collect(model, samples).histograms
    found = sqnr_by_method(model, histograms, [sample.inputs for sample in samples[:4]])
    assert list(found) == list(METHODS)
    assert all(10 < db < 100 for db in found.values())


def test_a_heavy_tail_that_clipping_cuts_costs_the_outputs():
    found = measured(np.eye(64), 32)
    assert found["max"] > found["entropy-unguarded"] + 3
