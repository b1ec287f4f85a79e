"""Samples -> those to calibrate on, to choose the method by, and to hold out for the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import CalibrationError
from edgeq.samples.store import Sample, is_held_out

Array = npt.NDArray[Any]
SampleSource = Callable[[], Iterator[Sample]]  # gives the samples anew at each call

SELECTION_SHARE = 0.25  # of the fit samples, used for nothing but the choice of the method
SELECTION_MOST = 32
SELECTION_LEAST_FIT = 8  # with fewer fit samples than this, the choice is made on them


@dataclass(frozen=True)
class Split:
    """Sample ids by what they are for; the sets are disjoint unless samples are very few."""

    fit: frozenset[str]
    select: frozenset[str]
    held_out: frozenset[str]
    unusable: tuple[str, ...] = ()  # with NaN or infinity
    strata: Mapping[str, str] = field(default_factory=dict)  # id -> what it is of; "" is left out

    @property
    def all(self) -> frozenset[str]:
        """Every sample that is used."""
        return self.fit | self.select | self.held_out


def split_samples(source: SampleSource, held_out_ratio: float) -> Split:
    """Divide the samples by a hash of their content, so that each set is the same every time.

    A sample that is there twice counts once; one with NaN or infinity is unusable.

    Raises:
        CalibrationError: there are fewer than two samples.
    """
    finite: dict[str, bool] = {}
    strata: dict[str, str] = {}
    for sample in source():
        finite[sample.id] = _is_finite(sample.inputs)
        if sample.stratum:
            strata[sample.id] = sample.stratum
    ids = sorted(i for i in finite if finite[i])
    unusable = tuple(sorted(i for i in finite if not finite[i]))
    if len(ids) < 2:
        raise _too_few(len(ids), len(unusable))
    held_out = [i for i in ids if is_held_out(i, held_out_ratio)] or ids[:1]
    rest = [i for i in ids if i not in set(held_out)] or held_out[1:]
    held_out = [i for i in held_out if i not in set(rest)]
    # The id's other half: independent of the first, which chose what is held out.
    select = [i for i in rest if is_held_out(i[::-1], SELECTION_SHARE)][:SELECTION_MOST]
    if len(rest) < SELECTION_LEAST_FIT or not select or 2 * len(select) > len(rest):
        few = frozenset(rest[:SELECTION_MOST])
        return Split(frozenset(rest), few, frozenset(held_out), unusable, strata)
    fit = frozenset(rest) - frozenset(select)
    return Split(fit, frozenset(select), frozenset(held_out), unusable, strata)


def _is_finite(inputs: Mapping[str, Array]) -> bool:
    floats = (values for values in inputs.values() if values.dtype.kind == "f")
    return all(np.isfinite(values).all() for values in floats)


def _too_few(usable: int, unusable: int) -> CalibrationError:
    more = f" ({unusable} more hold NaN or infinity)" if unusable else ""
    noun = "sample" if usable == 1 else "samples"
    return CalibrationError(
        f"there are {usable} {noun}{more}; a build needs two or more, one of them held out",
        hint="Add samples with --samples, or let the daemon capture some from live requests.",
    )


def only(source: SampleSource, ids: frozenset[str]) -> Iterator[Sample]:
    """Yield the samples of these ids, each once."""
    missing = set(ids)
    for sample in source():
        if sample.id in missing:
            missing.discard(sample.id)
            yield sample
        if not missing:
            return
