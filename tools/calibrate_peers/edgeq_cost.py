"""What edgeq's calibration costs: its time beside plain inference, its memory, its search.

Settings: `time:N` runs N float inferences and collects N samples, in turns; `memory:N` collects N
samples that are made as they are read, for the peak of the report; `search` times the entropy
rule on every tensor's histogram, and on one that fills all bins.
"""

from __future__ import annotations

import collections
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from measured import Job, Notes, main

from edgeq.calibrate.collect import collect
from edgeq.calibrate.entropy import (
    MAX_BINS,
    ONE_SIDED_LEVELS,
    TWO_SIDED_LEVELS,
    entropy_threshold,
)
from edgeq.calibrate.methods import Magnitudes
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner

ROUNDS = 5
BRIGHTER = 0.01  # how much a repeated sample may differ
SEARCHES = 3


def samples_of(job: Job) -> list[Sample]:
    """Return the job's samples under the names of the model's inputs."""
    names = [spec.name for spec in Runner(job.model.read_bytes()).inputs]
    return [
        Sample(str(number), dict(zip(names, frame, strict=True)))
        for number, frame in enumerate(job.frames())
    ]


def repeated(samples: list[Sample], count: int) -> Iterator[Sample]:
    """Yield `count` samples, each with an id of its own; the arrays are shared."""
    turns = itertools.islice(itertools.cycle(samples), count)
    return (Sample(str(number), sample.inputs) for number, sample in enumerate(turns))


def varied(samples: list[Sample], count: int) -> Iterator[Sample]:
    """Yield `count` samples made as they are read, each a little brighter or darker."""
    draw = np.random.default_rng(0)
    for sample in repeated(samples, count):
        factor = np.float32(draw.uniform(1 - BRIGHTER, 1 + BRIGHTER))
        yield Sample(sample.id, {name: value * factor for name, value in sample.inputs.items()})


@dataclass(frozen=True)
class Spent:
    """What some work took; a busy machine makes more of the first, hardly of the second."""

    wall_s: float
    cpu_s: float


def spent(work: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def measure_time(job: Job, notes: Notes, count: int) -> None:
    content = job.model.read_bytes()
    model, runner = Model.from_bytes(content), Runner(content, threads=job.threads)
    samples = list(repeated(samples_of(job), count))
    pairs = [
        (
            spent(lambda: collections.deque((runner.run(s.inputs) for s in samples), maxlen=0)),
            spent(lambda: collect(model, samples, threads=job.threads)),
        )
        for _ in range(ROUNDS)
    ]
    notes.details.update(
        samples=count,
        inference_ms=1e3 * statistics.median(infer.wall_s for infer, _ in pairs) / count,
        collect_ms=1e3 * statistics.median(gather.wall_s for _, gather in pairs) / count,
        ratio=statistics.median(gather.wall_s / infer.wall_s for infer, gather in pairs),
        cpu_ratio=statistics.median(gather.cpu_s / infer.cpu_s for infer, gather in pairs),
        least_ratio=min(g.wall_s for _, g in pairs) / min(i.wall_s for i, _ in pairs),
    )


def measure_search(job: Job, notes: Notes) -> None:
    found = collect(Model.read(job.model), samples_of(job), threads=job.threads)
    each = [search_ms(*_searched(h)) for h in found.histograms.values()]
    full = np.random.default_rng(0).integers(1, 1000, MAX_BINS)
    notes.details.update(
        tensors=len(each),
        median_ms=statistics.median(each),
        max_ms=max(each),
        one_sided_2048_ms=search_ms(full, ONE_SIDED_LEVELS),
        two_sided_2048_ms=search_ms(full, TWO_SIDED_LEVELS),
    )


def _searched(histogram: object) -> tuple[np.ndarray, int]:
    magnitudes = Magnitudes.of(histogram)
    return magnitudes.counts, magnitudes.levels


def search_ms(counts: np.ndarray, levels: int) -> float:
    """Return the CPU time of one search, which has one thread: the least of a few."""
    searches = [spent(lambda: entropy_threshold(counts, levels)) for _ in range(SEARCHES)]
    return 1e3 * min(search.cpu_s for search in searches)


def work(job: Job, notes: Notes) -> None:
    what, _, count = job.setting.partition(":")
    if what == "time":
        measure_time(job, notes, int(count))
    elif what == "memory":
        model = Model.read(job.model)
        collect(model, varied(samples_of(job), int(count)), threads=job.threads)
    else:
        measure_search(job, notes)


main(work, "edgeq")
