"""A split of old and new samples -> the mixes of them to calibrate on, one after the other.

Measured on ResNet-8, VWW and KWS, darker, in fog and louder, 64 new samples beside 87 to 200 old
ones, medians of 18: all of them gain 1.5 dB on the new (mean agreement 95.8 -> 97.2 %) and lose 0.6
dB on the old; as many old as new gain 2.1 and lose 2.9. The new alone leave ResNet-8 and VWW in the
dark 51 to 77 % agreement on the old. With 640 old ones all of them are still the better mix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeq.samples.split import Split


def mixes(split: Split, new: frozenset[str]) -> Iterator[Split]:
    """Yield all samples as they are; then, where the old are more, as many of them as of the new.

    What is held out is the same in each.
    """
    yield split
    fewer = replace(split, fit=_evened(split.fit, new), select=_evened(split.select, new))
    if fewer != split and fewer.fit and fewer.select:
        yield fewer


def _evened(ids: frozenset[str], new: frozenset[str]) -> frozenset[str]:
    """Return the new ids and as many of the others, by their content: the same each time."""
    count = len(ids & new)
    return frozenset([*(ids & new), *sorted(ids - new)[:count]])
