"""Fit samples of several conditions -> one Collection, each condition screened by itself.

At night every frame of the day is far brighter than most: over all frames together the day would
be left out as glitches. With VWW and 108 frames at 0.15 of their brightness beside 64 as they
were, the engine lost 23 dB on the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from edgeq.build.work import Work
from edgeq.calibrate.archive import merge_histograms
from edgeq.calibrate.collect import Collection, collect
from edgeq.calibrate.convergence import groups
from edgeq.errors import CalibrationError
from edgeq.samples.naming import ADDED, BEFORE
from edgeq.samples.split import only
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model


def collect_each(
    work: Work, model: Model, progress: Callable[[int], None] | None = None
) -> Collection:
    """Run the fit samples through `model`, which is the given one or an equalized copy.

    Raises:
        CalibrationError: no sample of any condition can be used.
    """
    done = 0

    def told(count: int) -> None:
        if progress is not None:
            progress(done + count)

    found: list[Collection] = []
    refused: list[CalibrationError] = []
    for ids in _conditions(work):
        samples, options = _in_parts(work, ids), work.options
        try:
            found.append(
                collect(
                    model,
                    samples,
                    threads=options.threads,
                    progress=told,
                    convergence=options.convergence,
                )
            )
        except CalibrationError as error:  # all of its samples are of no use
            refused.append(error)
        done += len(ids)
    if not found:
        raise refused[0]
    return found[0] if len(found) == 1 else _merged(found)


def _conditions(work: Work) -> list[frozenset[str]]:
    """Return the ids of the fit samples, those of a condition together; one where all are alike."""
    if not work.new:
        return [work.split.fit]
    kinds: dict[str, set[str]] = {}
    for identity in work.split.fit:
        stratum = work.split.strata.get(identity, BEFORE)
        kind = "new" if identity in work.new else BEFORE if stratum == ADDED else stratum
        kinds.setdefault(kind, set()).add(identity)
    return [frozenset(kinds[kind]) for kind in sorted(kinds)]


def _in_parts(work: Work, ids: frozenset[str]) -> Iterator[Sample]:
    """Yield the samples in the parts after which calibration may stop."""
    for part in groups(ids, work.options.convergence):
        yield from only(work.source, part)


def _merged(collections: list[Collection]) -> Collection:
    return Collection(
        merge_histograms(collection.histograms for collection in collections),
        sum(collection.samples for collection in collections),
        tuple(chain.from_iterable(collection.dropped for collection in collections)),
        all(collection.is_converged for collection in collections),
        tuple(chain.from_iterable(collection.warnings for collection in collections)),
    )
