"""Plain values + a section's type -> the section, or ConfigError with file, line, key and why."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from edgeq.config.document import Document, Location
from edgeq.config.fields import Section, leaves
from edgeq.errors import ConfigError

MAX_SHOWN = 60  # characters of a wrong value

# Pydantic's words in ours: 'Input should be a valid integer' -> 'expected an integer'.
WORDS = (
    (r"^.*dictionary.*$", "expected keys with values"),
    (r"^\w+ should (?:be |have )?", "expected "),
    (r"\ba valid integer\b", "an integer"),
    (r"\bvalid tuple\b", "list"),
    (r"\bvalid ", ""),
)

Sections = TypeVar("Sections", bound=Section)


def validate(
    section: type[Sections],
    document: Document,
    *,
    overrides: Mapping[Location, str] | None = None,
) -> Sections:
    """Check a document against a section.

    Args:
        section: what the document should be.
        document: the values, with `overrides` already in them, and their lines.
        overrides: keys that came from elsewhere, with the name of where.

    Raises:
        ConfigError: one line for each wrong key, in the order of the file.
    """
    try:
        return section.model_validate(document.values, context={"base": document.path.parent})
    except ValidationError as error:
        problems = [
            (_place(document, overrides or {}, problem["loc"]), _describe(section, problem))
            for problem in error.errors(include_url=False)
        ]
    lines = [f"{place}: {what}" for (_, place), what in sorted(problems)]
    raise ConfigError("\n".join(lines), hint="Mend each key named; configs/edgeq.yaml shows all.")


def _place(
    document: Document, overrides: Mapping[Location, str], location: Location
) -> tuple[int, str]:
    for depth in range(len(location), 0, -1):
        if location[:depth] in overrides:
            return 0, overrides[location[:depth]]
    within = [name for key, name in overrides.items() if key[: len(location)] == location]
    if within and location not in document.lines:
        return 0, ", ".join(within)  # a rule over several keys, of which the file has none
    line = document.line(location)
    return line, f"{document.path}:{line}"


def _describe(section: type[Section], problem: Any) -> str:
    location, said = problem["loc"], str(problem["msg"]).removeprefix("Value error, ")
    key = _dotted(location)
    if problem["type"] == "extra_forbidden":
        return f"key {key!r} is unknown; {_nearest(section, location)}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    if problem["type"] == "value_error" and not _is_leaf(section, location):
        return said  # a rule over several keys says itself which
    return f"key {key!r} is {_shown(problem['input'])}; {_expected(said)}"


def _is_leaf(section: type[Section], location: Location) -> bool:
    return any(location[: len(key)] == key for key, _ in leaves(section))


def _expected(said: str) -> str:
    for pattern, ours in WORDS:
        said = re.sub(pattern, ours, said)
    return said


def _shown(value: object) -> str:
    text = repr(value)
    if value is None or isinstance(value, bool):
        text = "null" if value is None else text.lower()
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _nearest(section: type[Section], location: Location) -> str:
    """A sibling that is spelled nearly so, else the same word in another section."""
    *parents, wrong = (str(part) for part in location)
    keys = [key for key, _ in leaves(section)]
    siblings = dict.fromkeys(
        key[len(parents)]
        for key in keys
        if len(key) > len(parents) and list(key[: len(parents)]) == parents
    )
    if near := difflib.get_close_matches(wrong, siblings, n=1):
        return f"did you mean {_dotted((*parents, near[0]))!r}?"
    elsewhere = difflib.get_close_matches(wrong, [key[-1] for key in keys], n=1, cutoff=0.8)
    if elsewhere:
        key = next(key for key in keys if key[-1] == elsewhere[0])
        return f"did you mean {_dotted(key)!r}?"
    return f"known here: {', '.join(siblings)}"
