"""Tensors and the methods that a build tried -> what mapping by the maximum costs, or gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.calibrate.histogram import Histogram
from edgeq.explain.explanation import MethodRange, TensorExplanation
from edgeq.explain.spread import spread
from edgeq.explain.tensors import histogram_sqnr_db
from edgeq.observe.charts.marks import Axis, printable, short
from edgeq.observe.charts.rows import change_picture, dots_picture
from edgeq.observe.report.markup import clipped, dim, figure, folded
from edgeq.observe.report.parts import ReportParts

MAX = "max"
SHOWN, MOST_ROWS = 10, 150  # tensors
EQUAL_DB = 0.05
LIMIT_DB = 100.0  # of one tensor: beyond, every value is a code
WHAT_IT_IS = (
    "Mapping by the maximum spreads the 256 codes from the least to the largest value that was "
    "seen. Clipping gives the few largest up, for finer steps between all others. Which of both "
    "pays is a matter of the model and its data; here it was measured."
)
AUTO = "auto"  # the method of a table whose tensors have several


@dataclass(frozen=True)
class Change:
    """One tensor by its maximum, and by another method."""

    name: str
    method: str
    by_max_db: float
    other_db: float
    codes_by_max: int
    codes_by_other: int
    finer: float  # the step by max as a multiple of the other's
    clipped_ratio: float

    @property
    def gain_db(self) -> float:
        """How much closer to float it is by the other method."""
        return self.other_db - self.by_max_db


def mapping_title(parts: ReportParts) -> str:
    """Return the heading: what serves is compared with what does not."""
    if _alternative(parts):
        return "Max mapping, and what clipping would have cost"
    return "What max mapping would have cost"


def mapping_section(parts: ReportParts) -> str:
    """Return the whole model by each method, and each tensor by max against its own range."""
    instead = _alternative(parts)
    changes = _changes(parts.explanation.tensors, parts.histograms, instead)
    return _whole_model(parts) + _by_tensor(changes, instead)


def _alternative(parts: ReportParts) -> str:
    """Where max serves: the method to compare it with; "" where another one serves."""
    methods = {tensor.method for tensor in parts.explanation.tensors}
    if methods != {MAX}:
        return ""
    others = {name: db for name, db in parts.record.candidates.items() if name != MAX}
    return max(others, key=lambda name: others[name]) if others else "entropy"


def _whole_model(parts: ReportParts) -> str:
    scores = parts.record.candidates
    if len(scores) < 2:
        return _on_golden_inputs(parts)
    method = parts.manifest.method
    chosen = method if method in scores else max(scores, key=lambda name: scores[name])
    rows = [(name, db, name == chosen) for name, db in sorted(scores.items(), key=_descending)]
    drawn = dots_picture(rows, "SQNR of the outputs by each method", "dB")
    said = _compared(scores, chosen)
    if method == AUTO:
        said += " On top of it, single tensors took another method's range where that gained."
    caption = "SQNR of the outputs, all tensors by one method, on samples kept for the choice"
    words = f"<p>{printable(said)}</p>{dim(WHAT_IT_IS)}"
    return f'<div class="pair"><div>{words}</div>{figure(drawn, caption)}</div>'


def _on_golden_inputs(parts: ReportParts) -> str:
    """What is measured after a build that was told its method."""
    scores, method = parts.by_method, parts.manifest.method
    if not parts.explanation.tensors:
        return dim("Nothing was mapped here: the model came with scales of its own, or as float.")
    if len(scores) < 2 or method not in scores:
        return dim(
            "The whole model by other methods was not measured in this build: with --method auto "
            "it is, and by `edgeq report` on the golden inputs."
        )
    rows = [(name, db, name == method) for name, db in sorted(scores.items(), key=_descending)]
    drawn = dots_picture(rows, "SQNR of the outputs by each method", "dB")
    words = f"<p>{printable(_compared(scores, method))}</p>{dim(WHAT_IT_IS)}"
    caption = (
        f"SQNR of the outputs on {parts.golden} golden inputs, without any refinement: so few "
        "that a small difference may be chance"
    )
    return f'<div class="pair"><div>{words}</div>{figure(drawn, caption)}</div>'


def _descending(item: tuple[str, float]) -> float:
    return -item[1]


def _compared(scores: Mapping[str, float], chosen: str) -> str:
    """Say what max would have cost, or what clipping would have."""
    if MAX not in scores:
        return f"{chosen} served best."
    if chosen == MAX:
        return _for_max(scores)
    gain = scores[chosen] - scores[MAX]
    return (
        f"Mapping by the maximum would have left {scores[MAX]:.1f} dB at the outputs; {chosen} "
        f"leaves {scores[chosen]:.1f} dB, {abs(gain):.1f} dB {'more' if gain >= 0 else 'less'}."
    )


def _for_max(scores: Mapping[str, float]) -> str:
    others = {name: db for name, db in scores.items() if name != MAX}
    best = max(others, key=lambda name: others[name])
    lead = scores[MAX] - others[best]
    judged = "serves this model best" if lead >= 0.0 else "was asked for"
    if abs(lead) < EQUAL_DB:
        judged, beside = "serves this model as well as any other", f"as by {best}"
    else:
        beside = f"{abs(lead):.1f} dB {'more' if lead > 0.0 else 'less'} than {best}, the best of"
        beside += " the others"
    return (
        f"Mapping by the maximum, which clips nothing, {judged}: {scores[MAX]:.1f} dB at the "
        f"outputs, {beside}."
    )


def _changes(
    tensors: Sequence[TensorExplanation], histograms: Mapping[str, Histogram], instead: str
) -> list[Change]:
    """Return every tensor that can be compared, the one that gains most first."""
    pairs = ((tensor, histograms.get(tensor.name)) for tensor in tensors)
    found = [_change(tensor, histogram, instead) for tensor, histogram in pairs if histogram]
    return sorted((c for c in found if c is not None), key=lambda change: -change.gain_db)


def _change(tensor: TensorExplanation, histogram: Histogram, instead: str) -> Change | None:
    by_max, other = tensor.methods.get(MAX), _other(tensor, histogram, instead)
    if by_max is None or other is None or not histogram.count:
        return None
    wide, fine = (spread(histogram, each.lo, each.hi) for each in (by_max, other))
    return Change(
        name=tensor.name,
        method=instead or tensor.method,
        by_max_db=by_max.sqnr_db,
        other_db=other.sqnr_db,
        codes_by_max=wide.used,
        codes_by_other=fine.used,
        finer=wide.step / fine.step,
        clipped_ratio=other.clipped_ratio,
    )


def _other(tensor: TensorExplanation, histogram: Histogram, instead: str) -> MethodRange | None:
    """What is compared with max: the range in use, of which an imported table has its own."""
    if instead or tensor.method in tensor.methods:
        return tensor.methods.get(instead or tensor.method)
    sqnr_db = histogram_sqnr_db(histogram, tensor.lo, tensor.hi)
    return MethodRange(tensor.lo, tensor.hi, tensor.clipped_ratio, None, sqnr_db)


def _by_tensor(changes: Sequence[Change], instead: str) -> str:
    differing = [change for change in changes if abs(change.gain_db) >= EQUAL_DB]
    if not changes:
        return ""
    if not differing:
        return f"<p>Each of the {len(changes)} tensors comes out alike by all methods.</p>"
    rest = differing[SHOWN:MOST_ROWS]
    more = folded(f"{len(rest)} more tensors", _rows(rest, differing, instead)) if rest else ""
    used = f"by {instead}" if instead else "in use"
    return (
        f"<h3>Tensor by tensor</h3><p>{printable(_said(changes, differing, instead))}</p>"
        f"{_rows(differing[:SHOWN], differing, instead)}{more}"
        + dim(
            f"SQNR of the tensor alone, from its histogram: open dot by max, full dot {used}. "
            "Codes: how many of 256 the middle 99.9 % of its values span."
        )
    )


def _said(changes: Sequence[Change], differing: Sequence[Change], instead: str) -> str:
    better = sum(change.gain_db > 0.0 for change in differing)
    alike = len(changes) - len(differing)
    same = f" {alike} come out alike." if alike else ""
    if instead:
        return (
            f"By {instead}, {better} of {len(changes)} tensors would be closer to float, each "
            "taken alone; what that does to the outputs, which count, is above." + same
        )
    return (
        f"{better} of {len(changes)} tensors are closer to float in the range in use than by "
        "their maximum: what it clips is rare, and what it keeps gets finer steps." + same
    )


def _rows(changes: Sequence[Change], all_changes: Sequence[Change], instead: str) -> str:
    ends = [db for change in all_changes for db in (change.by_max_db, change.other_db)]
    low, high = max(min(ends), 0.0), min(max(ends), LIMIT_DB)
    axis = Axis.over([low - 2.0, high + 2.0])
    rows = "".join(_row(change, axis) for change in changes)
    return (
        '<table class="changes"><thead><tr><th scope="col">tensor</th>'
        f'<th scope="col">SQNR by max to {printable(instead or "in use")}</th>'
        '<th scope="col" class="n">gain</th>'
        '<th scope="col" class="n">steps</th><th scope="col" class="n">codes</th>'
        '<th scope="col" class="n">clipped</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(change: Change, axis: Axis) -> str:
    words = f"{change.by_max_db:.1f} dB by max, {change.other_db:.1f} dB by {change.method}"
    cells = (
        f"{change.gain_db:+.1f} dB",
        f"{change.finer:.2f}\N{MULTIPLICATION SIGN} finer",
        f"{change.codes_by_max} \N{RIGHTWARDS ARROW} {change.codes_by_other}",
        clipped(change.clipped_ratio),
    )
    figures = "".join(f'<td class="n">{printable(cell)}</td>' for cell in cells)
    return (
        f'<tr><th scope="row" title="{printable(change.name)}">{printable(short(change.name))} '
        f'<span class="tag">{printable(change.method)}</span></th>'
        f"<td>{change_picture(change.by_max_db, change.other_db, axis, words)}</td>{figures}</tr>"
    )
