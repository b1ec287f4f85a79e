"""A seed -> the same steps in the same order, whatever the daemon makes of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CLASSIFIERS = ("digits", "letters")  # float models, which get built
PLAIN = "plain"  # a model that arrives quantized and is served as it is
MODELS = (*CLASSIFIERS, PLAIN)

# What is done in each round, in an order of its own; one that is named twice is done twice.
STEPS = (
    "good drop", "good drop", "good drop", "same drop", "replaced drop", "plain drop",
    "truncated drop", "random drop", "flipped drop", "wrong digest", "pipe", "link", "folder",
    "huge drop", "odd name", "empty drop",
    "rollback", "pin", "unpin", "unpin", "unload and load", "load by request", "recalibrate",
    "drift", "samples", "prune", "retry", "status command",
    "reload", "wrong reload", "kill build", "stop build",
    "full disk", "full disk and drop", "resume",
    "slow clients", "bad requests", "overload",
)  # fmt: skip
# The daemon's own end: in one round of `ROUNDS_A_LIFE`, so that it lives long enough to grow.
ENDS = ("kill", "kill in a drop", "kill in a build", "kill on a full disk", "stop")
ROUNDS_A_LIFE = 4


@dataclass(frozen=True)
class Step:
    """One thing that is done; `seed` is of all that is drawn for it."""

    number: int
    kind: str
    model: str
    seed: int

    def random(self) -> random.Random:
        """Return the step's own randomness."""
        return random.Random(self.seed)


def ends_of(*, is_brief: bool, has_disk: bool) -> tuple[str, ...]:
    """Return how the daemon is ended: in every way, or in the one that tells most."""
    if not is_brief:
        return ENDS
    return ("kill on a full disk",) if has_disk else ("kill",)


def plan(seed: int, ends: Sequence[str] = ENDS) -> Iterator[Step]:
    """Yield steps without end, in which the daemon is ended so."""
    draw, numbers = random.Random(seed), itertools.count()
    for turn in itertools.count():
        kinds = [*STEPS, *(ends if turn % ROUNDS_A_LIFE == 0 else ())]
        draw.shuffle(kinds)
        for kind in kinds:
            yield Step(next(numbers), kind, draw.choice(CLASSIFIERS), draw.randrange(1 << 32))
