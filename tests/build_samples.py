"""Samples for builds: made on the spot, or drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from edgeq.samples.store import Sample, sample_id
from tests import tiny


def sample(**inputs: tiny.Array) -> Sample:
    return Sample(sample_id(inputs), inputs)


def from_list(samples: list[Sample]) -> Callable[[], Iterator[Sample]]:
    return lambda: iter(samples)


def drawn(count: int, **shapes: tuple[int, ...]) -> list[Sample]:
    draw = np.random.default_rng(0)
    return [
        sample(**{n: draw.normal(size=s).astype(np.float32) for n, s in shapes.items()})
        for _ in range(count)
    ]
