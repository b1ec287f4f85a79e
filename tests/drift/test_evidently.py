"""Beside the package itself, where it is installed: drawn histograms, every statistic."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.drift.statistics import (
    hellinger,
    js_distance,
    kl_divergence,
    ks_statistic,
    psi,
    wasserstein_ratio,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pd = pytest.importorskip("pandas", reason="needs the package evidently (0.7, pandas<3)")
    core = pytest.importorskip(
        "evidently.legacy.core", reason="needs the package evidently (0.7, pandas<3)"
    )
    tests = pytest.importorskip("evidently.legacy.calculations.stattests")
    stats = pytest.importorskip("scipy.stats")

pytestmark = pytest.mark.filterwarnings("ignore")  # its own


def drawn() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    yield np.repeat(np.arange(100, 122), 20000), np.repeat(np.arange(100, 124), 30000)
    for _ in range(20):
        size, other = draw.integers(5, 3000, 2)
        yield draw.normal(128, 30, size), draw.normal(draw.normal(128, 20), 40, other)
        yield draw.exponential(20, size), draw.exponential(draw.uniform(5, 60), other)
        yield draw.integers(0, draw.integers(2, 30), size), draw.integers(0, 30, other)
        yield np.full(size, 7.0), draw.integers(0, 20, other)


@pytest.mark.parametrize("is_categorical", [False, True])
def test_the_statistics_equal_evidently_s(is_categorical):
    kind = core.ColumnType.Categorical if is_categorical else core.ColumnType.Numerical
    ours = {
        "psi": psi,
        "jensenshannon": js_distance,
        "kl_div": kl_divergence,
        "hellinger": hellinger,
    }
    for pair in drawn():
        reference, live = (np.clip(np.rint(v), 0, 255) for v in pair)
        counts = [np.bincount(v.astype(np.int64), minlength=256) for v in (reference, live)]
        columns = pd.Series(reference), pd.Series(live)
        for name, statistic in ours.items():
            theirs = tests.get_stattest(*columns, kind, name)(*columns, kind, 0.1).drift_score
            assert statistic(*counts, is_categorical=is_categorical) == pytest.approx(
                theirs, rel=1e-9, abs=1e-9
            ), name
        if not is_categorical:
            found = tests.get_stattest(*columns, kind, "wasserstein")(*columns, kind, 0.1)
            assert wasserstein_ratio(*counts) == pytest.approx(found.drift_score, rel=1e-9)
            theirs = stats.ks_2samp(reference, live).statistic
            assert ks_statistic(*counts) == pytest.approx(theirs, abs=1e-9)
