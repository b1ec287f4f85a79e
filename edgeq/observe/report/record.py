"""What a build tried, and how long each stage took <-> `build.json` of its bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeq.bundle import BUILD_AGAIN
from edgeq.errors import BundleError


@dataclass(frozen=True)
class BuildRecord:
    """The way to a bundle; what was not measured is empty."""

    stages: Mapping[str, float] = field(default_factory=dict)  # seconds, in order of the first
    candidates: Mapping[str, float] = field(default_factory=dict)  # method -> SQNR in dB
    refinements: Mapping[str, float] = field(default_factory=dict)  # those tried -> SQNR in dB
    warnings: tuple[str, ...] = ()  # why the samples may not be like those in the field
    dropped: int = 0  # samples that could not be used

    def to_json(self) -> bytes:
        """Return the content of `build.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> BuildRecord:
        """Read what `to_json` wrote; further keys are ignored.

        Raises:
            BundleError: not JSON, incomplete, or a value is of another type.
        """
        try:
            values = json.loads(content)
            return cls(
                stages=_figures(values["stages"]),
                candidates=_figures(values["candidates"]),
                refinements=_figures(values["refinements"]),
                warnings=tuple(str(each) for each in values["warnings"]),
                dropped=int(values["dropped"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleError(f"build.json is damaged: {error!r}", hint=BUILD_AGAIN) from error


def _figures(values: Mapping[str, Any]) -> dict[str, float]:
    found = {name: float(value) for name, value in values.items()}
    if not all(math.isfinite(value) for value in found.values()):
        raise ValueError("a figure is not finite")
    return found
