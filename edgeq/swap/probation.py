"""What a version did since it was published -> whether it may stay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """What the live version did since it was published; malformed requests do not count."""

    requests: int = 0
    errors: int = 0  # the engine failed
    nonfinite: int = 0  # a float output held NaN or infinity where the golden outputs hold none


@dataclass(frozen=True)
class ProbationOptions:
    """When a version that was just published is taken back."""

    window_s: float = 30.0
    max_error_ratio: float = 0.01  # of the requests since it was published
    min_requests: int = 1  # before any verdict


def probation_verdict(health: Health, options: ProbationOptions) -> str:
    """Return the reason to roll back, or "" where there is none."""
    if health.requests < options.min_requests:
        return ""
    for count, what in (
        (health.errors, "failed in the engine"),
        (health.nonfinite, "gave NaN or infinity"),
    ):
        if count > options.max_error_ratio * health.requests:
            return (
                f"{count} of {health.requests} requests {what}; "
                f"probation allows {options.max_error_ratio:.2%}"
            )
    return ""
