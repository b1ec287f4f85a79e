"""What two engines did on the same samples, pair by pair -> is the new one worth a swap?

Choices decide where the difference is more than chance (a sign test); else the noise does (a
randomization test). Few samples rarely differ in a choice: in 18 recalibrations of ResNet-8 and VWW
in the dark, on 8 to 36 held-out samples, none did, while the noise changed by -2 to +10 dB.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CHANCE = 0.05  # of calling two equal engines different
LEAST_GAIN_DB = 0.5  # a swap is not worth less
TOLERABLE_DB = 3.0  # of more noise on the samples from before, whatever is gained on the new
DRAWS = 4096  # of pairs swapped, where there are too many to try all
NO_NOISE = 1e-20  # of the signal: what exact answers count as

Energies = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The new engine beside the present one over some samples; `gained` is in its favour."""

    samples: int
    gained: int  # samples that it alone chooses as float does
    lost: int  # that the present one alone does
    gain_db: float  # less noise, over all of them
    chance: float  # that two equal engines differ so in noise, or more; one-sided

    @property
    def chooses_better(self) -> bool:
        """True where it chooses as float does more often, by more than chance."""
        return sign_test(self.gained, self.lost) <= CHANCE

    @property
    def chooses_worse(self) -> bool:
        """True where it does so less often, by more than chance."""
        return sign_test(self.lost, self.gained) <= CHANCE

    @property
    def is_quieter(self) -> bool:
        """True where no choice was given for less noise: more than chance, and worth a swap."""
        is_less = self.gain_db >= LEAST_GAIN_DB and self.chance <= CHANCE
        return is_less and self.gained >= self.lost

    def __str__(self) -> str:
        differs = self.gained + self.lost > 0
        choices = f"{self.gained} choices gained, {self.lost} lost, " if differs else ""
        return f"{choices}{self.gain_db:+.1f} dB on {self.samples} samples"


@dataclass(frozen=True)
class Comparison:
    """The new engine beside the one that serves, on what the inputs are now and were before."""

    new: Difference
    old: Difference


def as_dict(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return what `verdict.json` holds of it."""
    if comparison is None:
        return None
    return {"new": asdict(comparison.new), "old": asdict(comparison.old)}


def refusal(new: Difference, old: Difference) -> str:
    """Return why the engine that serves stays, "" where the new one is worth a swap."""
    if not new.samples:
        return "none of the new samples is held out to compare the engines by"
    if old.chooses_worse:
        return f"the new one chooses worse on the samples from before: {old}"
    if new.chooses_better:
        return ""
    if not new.is_quieter:
        return f"the new one is no better by more than chance where the inputs changed: {new}"
    if old.samples and -old.gain_db > max(new.gain_db, TOLERABLE_DB):
        return f"the new one loses more on the samples from before than it gains: {old}; {new}"
    return ""


def sign_test(ups: int, downs: int) -> float:
    """Return the chance of so many ups, or more, were both equally likely."""
    count = ups + downs
    ways = sum(math.comb(count, k) for k in range(ups, count + 1))
    return float(ways / 2**count)


def swap_test(before: Energies, after: Energies) -> tuple[float, float]:
    """Return how much less noise `after` has, in dB, and the chance of as much between equals.

    Fisher's randomization test: were the engines equal, each pair might as well stand the other
    way round. The sums are compared, not each pair: two classes leave a sample's noise one degree
    of freedom, whose logarithm scatters by 10 dB. All ways up to 12 pairs, else 4096 draws.

    Args:
        before: noise of each sample with the engine that serves, [samples].
        after: the same with the new one.
    """
    count = len(before)
    if count == 0:
        return 0.0, 1.0
    if count <= int(math.log2(DRAWS)):
        swaps = (np.arange(2**count)[:, np.newaxis] >> np.arange(count)) & 1 == 1
    else:
        swaps = np.random.default_rng(0).random((DRAWS, count)) < 0.5
        swaps[0] = False  # as they are
    sums = np.where(swaps, after, before).sum(axis=1), np.where(swaps, before, after).sum(axis=1)
    gains_db = 10.0 * np.log10((sums[0] + NO_NOISE) / (sums[1] + NO_NOISE))
    gain_db = float(gains_db[0])
    return gain_db, float((gains_db >= gain_db - 1e-9).mean())
