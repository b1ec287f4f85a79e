"""Streams that drift, and what the frames lack -> the reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.drift.state import TensorDrift
from edgeq.drift.statistics import Statistic
from edgeq.drift.stream import StreamKind

MOST_CLAUSES = 3
NOTABLE_SHIFT = 0.1  # deviations; a smaller one is not put into words
HYSTERESIS = 0.8  # an active drift ends below this share of its threshold

STATISTICS: Mapping[Statistic, str] = {
    "psi": "PSI",
    "js_distance": "JS distance",
    "wasserstein_ratio": "Wasserstein",
}
PLACES: Mapping[StreamKind, str] = {"input": "input ", "output": "output ", "classes": "output "}
OF_INPUTS: Mapping[str, tuple[str, str]] = {  # scalars of an image: lower, higher
    "brightness": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "sharpness": ("less sharp", "sharper"),
}
OF_OUTPUTS: Mapping[str, tuple[str, str]] = {
    "confidence": ("less confident", "more confident"),
    "margin": ("closer calls", "clearer calls"),
    "entropy": ("more certain", "less certain"),
}

# What no calibration can mend: the source fails. Of the complaints by their last word.
UNFIT_SHARE = 0.8
UNFIT: Mapping[str, str] = {
    "stuck": "the same as the one before, as of a stuck camera",
    "constant": "a single value throughout",
    "not_finite": "with values that are no numbers",
    "noise": "noise: no pixel has to do with the next",
}


def reason_in_words(drifted: Sequence[TensorDrift], images: frozenset[str]) -> str:
    """Return the reason, the worst first, one clause for each tensor.

    Args:
        drifted: the streams that drift.
        images: inputs that have a brightness.
    """
    worst: dict[str, TensorDrift] = {}
    for drift in sorted(drifted, key=lambda d: -d.excess):
        worst.setdefault(_tensor(drift), drift)
    clauses = [_clause(drift, images) for drift in worst.values()]
    more = len(clauses) - MOST_CLAUSES
    if more > 0:
        clauses[MOST_CLAUSES:] = [f"{more} more"]
    return "; ".join(clauses)


def unfit_in_words(health: Mapping[str, float]) -> str:
    """Return what is wrong with the source of the frames, "" where nothing is."""
    clauses = []
    for complaint, share in health.items():
        tensor, _, fault = complaint.rpartition("/")
        if fault in UNFIT and share >= UNFIT_SHARE:
            clauses.append(
                f"input {tensor!r}: {share * 100:.0f} % of the frames are {UNFIT[fault]}"
            )
    return "; ".join(clauses)


def _tensor(drift: TensorDrift) -> str:
    """Return what the stream is of: an image and its brightness are one."""
    return drift.tensor.rpartition("/")[0] if drift.kind in ("scalar", "classes") else drift.tensor


def _word(drift: TensorDrift) -> str:
    return drift.tensor.rpartition("/")[2] if drift.kind == "scalar" else ""


def _clause(drift: TensorDrift, images: frozenset[str]) -> str:
    if saturation := _saturation(drift):
        return f"{_subject(drift)} {saturation}"
    bound = drift.threshold * (1.0 if drift.value > drift.threshold else HYSTERESIS)
    measured = f"{STATISTICS[drift.statistic]} {drift.value:.2f} > {bound:.2f}"
    if word := _word(drift):
        measured += f" of its {word}"
    said = ", ".join(part for part in (_direction(drift, images), measured) if part)
    return f"{_subject(drift)}: {said} at n={drift.frames:.0f}"


def _subject(drift: TensorDrift) -> str:
    place = PLACES.get(drift.kind, "")
    if word := _word(drift):
        place = "input " if word in OF_INPUTS else "output "
    return f"{place}{_tensor(drift)!r}" if place else _tensor(drift)


def _direction(drift: TensorDrift, images: frozenset[str]) -> str:
    if drift.kind == "classes":
        return "other classes"
    if abs(drift.mean_shift) < NOTABLE_SHIFT:
        return ""
    of_images = OF_INPUTS["brightness"] if _tensor(drift) in images else ("lower", "higher")
    words = {**OF_INPUTS, **OF_OUTPUTS}.get(_word(drift), of_images)
    return words[drift.mean_shift > 0]


def _saturation(drift: TensorDrift) -> str:
    """Say so where the rails are what is furthest over its bound."""
    if drift.excess <= drift.value / drift.threshold:
        return ""
    rails = (drift.low_ratio, drift.low_reference), (drift.high_ratio, drift.high_reference)
    live, reference = max(rails, key=lambda rail: rail[0] - rail[1])
    is_zero = drift.starts_at_zero and (live, reference) == rails[0]
    verb = "is zero" if is_zero else "saturates"
    return f"{verb} {live:.1%} against {reference:.1%}".replace("%", " %")
