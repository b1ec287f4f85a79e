"""Held-out samples -> the parts that the gate judges by themselves: old, new, each stratum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from edgeq.build.work import Work
from edgeq.samples.split import only
from edgeq.samples.store import Sample
from edgeq.verify import NEW, OLD

LEAST_OF_STRATUM = 8  # held-out samples; one other choice of fewer is surely below any gate


def parts_of(work: Work) -> Callable[[Sample], tuple[str, ...]] | None:
    """Return what names a held-out sample's parts; None where all samples are of one kind."""
    new, strata = work.new, work.split.strata
    if not new or not work.split.all - new:
        return None
    counts = Counter(strata[i] for i in work.split.held_out - new if i in strata)

    def named(sample: Sample) -> tuple[str, ...]:
        if sample.id in new:
            return (NEW,)
        stratum = strata.get(sample.id, "")
        return (OLD, stratum) if counts[stratum] >= LEAST_OF_STRATUM else (OLD,)

    return named


def held_out_new(work: Work) -> Iterator[Sample]:
    """Yield the held-out samples of what the inputs are now."""
    return only(work.source, work.split.held_out & work.new)


def held_out_old(work: Work) -> Iterator[Sample]:
    """Yield the held-out samples from before."""
    return only(work.source, work.split.held_out - work.new)
