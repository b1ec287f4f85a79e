"""A Chain -> one kernel for all of it where there is one, or its parts' kernels one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgeq.engines.cuda.binding import separable, tail
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Launch
from edgeq.engines.cuda.program.nodes import Chain, Convolution, Depthwise, Node

PARTS_TRIED = 2  # choices of each part, with the others' best

Binder = Callable[[Node, Site], tuple[Choice, ...]]


def choices(node: Chain, site: Site, binder: Binder) -> tuple[Choice, ...]:
    """Return the ways to carry out a chain, best first; `binder` gives those of a part."""
    found = [*_fused(node, site), *_in_turn([binder(part, site) for part in node.parts])]
    return tuple(sorted(found, key=lambda choice: choice.microseconds))


def _fused(node: Chain, site: Site) -> tuple[Choice, ...]:
    first, *others = node.parts
    if isinstance(first, Depthwise) and len(others) == 1 and isinstance(others[0], Convolution):
        return separable.choices(first, others[0], site)
    return tail.choices(node.parts, site)


def _in_turn(parts: Sequence[Sequence[Choice]]) -> Iterator[Choice]:
    """Yield the best of each part, and what differs from it in one."""
    best = [found[0] for found in parts]
    yield _joined(best)
    for position, found in enumerate(parts):
        for other in found[1:PARTS_TRIED]:
            yield _joined([*best[:position], other, *best[position + 1 :]])


def _joined(parts: Sequence[Choice]) -> Choice:
    def bind() -> tuple[Launch, ...]:
        return tuple(launch for part in parts for launch in part.bind())

    name = " + ".join(part.name for part in parts)
    return Choice(name, sum(part.microseconds for part in parts), bind)
