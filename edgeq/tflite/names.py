"""Names as the file has them -> names that tell every tensor apart."""

from __future__ import annotations

from collections.abc import Sequence


def unique(names: Sequence[str]) -> list[str]:
    """Return the names, where an empty or repeated one gets '#<position>'.

    The position is all that is added, so a float model and its INT8 file, whose tensors are
    numbered differently, name equal interfaces equally.
    """
    taken = set(names)
    seen: set[str] = set()
    result = []
    for position, name in enumerate(names):
        given = name
        if not name or name in seen:
            given = f"{name}#{position}"
            while given in taken:  # the file itself may hold 'x', 'x' and 'x#1'
                given += "#"
            taken.add(given)
        seen.add(name)
        result.append(given)
    return result
