"""Names of stored samples' files <-> origin, content and stratum; names of strata.

A stratum from before any drift is not in the name: it is that of files an older edgeq left.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Collection
from typing import Literal, NamedTuple

Origin = Literal["captured", "added"]

BEFORE = "before"
ADDED = "added"  # the stratum, for a build, of what a person gave
_STAMP = "%Y%m%dT%H%M%SZ"
_FILE_NAME = re.compile(r"(captured|added)-([0-9a-f]{64})(?:-(\d{8}T\d{6}Z))?\.npz")


class StoredName(NamedTuple):
    """What a file's name says."""

    origin: Origin
    id: str
    stratum: str


def file_name(origin: Origin, identity: str, stratum: str) -> str:
    """Return the name of a stored sample's file."""
    suffix = "" if stratum == BEFORE else f"-{stratum}"
    return f"{origin}-{identity}{suffix}.npz"


def parse_file_name(name: str) -> StoredName | None:
    """Read a file's name; None where it is not a stored sample's."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        return None
    origin: Origin = "added" if match[1] == "added" else "captured"
    return StoredName(origin, match[2], match[3] or BEFORE)


def stratum_of_file(name: str) -> str:
    """Return the stratum that a build takes a file's samples to be of, "" for any other file."""
    stored = parse_file_name(name)
    if stored is None:
        return ""
    return ADDED if stored.origin == "added" else stored.stratum


def is_stratum(name: str) -> bool:
    """True for a name that a stratum may have."""
    stored = parse_file_name(file_name("captured", "0" * 64, name))
    return stored is not None and stored.stratum == name


def new_stratum(now: float, taken: Collection[str]) -> str:
    """Return the name of a stratum that begins at `now`, seconds since the epoch.

    Strata are in the order of their names: none is before one that is there, whatever the clock.
    """
    begun = [began for name in taken if (began := _began(name)) is not None]
    return time.strftime(_STAMP, time.gmtime(max(int(now), *(at + 1 for at in begun), 0)))


def _began(stratum: str) -> int | None:
    try:
        return calendar.timegm(time.strptime(stratum, _STAMP))
    except ValueError:
        return None


def stratum_in_words(stratum: str) -> str:
    """Return 'before', or 'since 2026-11-23T17:00:07Z'."""
    try:
        began = time.strptime(stratum, _STAMP)
    except ValueError:
        return stratum
    return time.strftime("since %Y-%m-%dT%H:%M:%SZ", began)
