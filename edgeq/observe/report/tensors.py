"""Tensors and their histograms -> a card each, those of the worst layers first and open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.calibrate.entropy import divergence_curve
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import Magnitudes
from edgeq.explain.explanation import TensorExplanation
from edgeq.explain.spread import spread
from edgeq.observe.charts.codes import codes_picture
from edgeq.observe.charts.curve import Threshold, divergence_picture
from edgeq.observe.charts.histogram import COLOURS, histogram_picture
from edgeq.observe.charts.marks import number, printable, short
from edgeq.observe.report.markup import SCROLLED, clipped, dim, facts, figure, folded, table
from edgeq.observe.report.parts import ReportParts

CURVE_POINTS = 64
MOST_CARDS = 100  # tensors: 9 kB each; with more the page would be over 1.5 MB
NO_TENSORS = "the model arrived with scales of its own, or its calibration is not in the bundle"


def tensors_section(parts: ReportParts) -> str:
    """Return every tensor: those of the worst layers open, others folded, very many as a table."""
    tensors = parts.explanation.tensors
    if not tensors:
        return f'<p class="dim">None: {NO_TENSORS}.</p>'
    cost = _costs(parts)
    worst = {each.tensor: rank for rank, each in enumerate(parts.explanation.worst, 1)}
    ordered = sorted(tensors, key=lambda t: (worst.get(t.name, 99), -cost.get(t.name, 0.0)))
    cards = [
        _card(tensor, parts.histograms.get(tensor.name), cost.get(tensor.name),
              is_open=tensor.name in worst)
        for tensor in ordered[:MOST_CARDS]
    ]  # fmt: skip
    opened = sum(tensor.name in worst for tensor in ordered[:MOST_CARDS])
    rest = len(tensors) - opened
    heading = f"<h3>The other {rest}</h3>" if opened and rest else ""
    return (
        "".join(cards[:opened])
        + heading
        + "".join(cards[opened:])
        + _without_cards(ordered[MOST_CARDS:], cost)
    )


def _without_cards(tensors: Sequence[TensorExplanation], cost: Mapping[str, float]) -> str:
    if not tensors:
        return ""
    rows = [
        (
            short(tensor.name),
            f"{cost.get(tensor.name, 0.0):.1%}",
            tensor.method,
            clipped(tensor.clipped_ratio),
            number(tensor.lo),
            number(tensor.hi),
        )
        for tensor in tensors
    ]
    listed = table(("tensor", "noise", "method", "clipped", "lo", "hi"), rows)
    return folded(f"{len(tensors)} more, which cost least, without pictures", listed)


def _costs(parts: ReportParts) -> dict[str, float]:
    """Share of the outputs' noise that starts at each tensor."""
    costs: dict[str, float] = {}
    for layer in parts.explanation.layers:
        costs[layer.tensor] = costs.get(layer.tensor, 0.0) + layer.share
    return costs


def _card(
    tensor: TensorExplanation,
    histogram: Histogram | None,
    cost: float | None,
    *,
    is_open: bool,
) -> str:
    tags = " ".join(
        f'<span class="tag">{printable(tag.replace("_", " "))}</span>' for tag in tensor.tags
    )
    share = f'<span class="share">{cost:.1%} of the noise</span>' if cost else ""
    pictures = _pictures(tensor, histogram)
    return (
        f"<details{' open' if is_open else ''}><summary>{printable(short(tensor.name))} {tags}"
        f'{share}</summary><div class="tensor"><div class="pair">{_facts(tensor)}'
        f"{_methods(tensor)}</div>{pictures}{_full_name(tensor)}</div></details>"
    )


def _pictures(tensor: TensorExplanation, histogram: Histogram | None) -> str:
    if histogram is None:
        return dim("Its histogram is not in the bundle.")
    if not histogram.count:
        return dim("No finite value was seen.")
    name = short(tensor.name)
    ranges = {method: (each.lo, each.hi) for method, each in tensor.methods.items()}
    kept = (tensor.lo, tensor.hi)
    if tensor.int8_lo is not None and tensor.int8_hi is not None:
        kept = (tensor.int8_lo, tensor.int8_hi)
        ranges["INT8"] = kept
    drawn = [
        figure(
            histogram_picture(histogram, ranges, kept, f"Values of {name}"),
            "Its values, and what each method keeps",
        ),
        _divergence(tensor, histogram, name),
        _codes(tensor, histogram, kept, name),
    ]
    return f'<div class="pictures">{"".join(drawn)}</div>'


def _divergence(tensor: TensorExplanation, histogram: Histogram, name: str) -> str:
    """KL over the candidates, with the least one and the one in use."""
    magnitudes = Magnitudes.of(histogram)
    candidates, found = divergence_curve(magnitudes.counts, magnitudes.levels, CURVE_POINTS)
    if candidates.size < 2:
        return figure(
            dim("Its values fill too few bins for thresholds to choose from."),
            "KL divergence in nats, by threshold",
        )
    marked = _marked(tensor)
    drawn = divergence_picture(
        candidates * magnitudes.width, found, marked, f"KL divergence of {name}"
    )
    return figure(drawn, "KL divergence in nats, by threshold")


def _marked(tensor: TensorExplanation) -> list[Threshold]:
    marks = []
    least = tensor.methods.get("entropy-unguarded")
    in_use = tensor.methods.get(tensor.method)
    reach = max(-tensor.lo, tensor.hi)
    if least is not None:
        at = max(-least.lo, least.hi)
        is_same = abs(at - reach) <= 1e-9 * max(abs(at), abs(reach))
        name = "least, and in use" if is_same else _least(tensor, at)
        marks.append(Threshold(name, at, least.divergence, COLOURS["entropy-unguarded"]))
        if is_same:
            return marks
    divergence = in_use.divergence if in_use else None
    css = COLOURS["INT8"]
    marks.append(Threshold(f"in use ({tensor.method})", reach, divergence, css))
    return marks


def _least(tensor: TensorExplanation, at: float) -> str:
    """Name the least divergence; where the guarded method left it, it clips what matters."""
    guarded = tensor.methods.get("entropy")
    is_passed_over = guarded is not None and max(-guarded.lo, guarded.hi) != at
    return "least, but clips too much" if is_passed_over else "least"


def _codes(
    tensor: TensorExplanation, histogram: Histogram, kept: tuple[float, float], name: str
) -> str:
    by_max = tensor.methods.get("max")
    if by_max is None:
        return ""
    wide, used = spread(histogram, by_max.lo, by_max.hi), spread(histogram, *kept)
    names = (f"by max: steps of {number(wide.step)}", f"in use: steps of {number(used.step)}")
    drawn = codes_picture(wide.counts, used.counts, names, f"INT8 codes of {name}")
    return figure(drawn, f"INT8 codes: {wide.used} by max, {used.used} in use")


def _facts(tensor: TensorExplanation) -> str:
    holds = "stays float"
    if tensor.int8_lo is not None and tensor.int8_hi is not None:
        holds = f"{number(tensor.int8_lo)} to {number(tensor.int8_hi)}"
    return facts(
        {
            "values": f"{tensor.count:,} from {number(tensor.min)} to {number(tensor.max)}",
            "in use": f"{number(tensor.lo)} to {number(tensor.hi)} by {tensor.method}, "
            f"{clipped(tensor.clipped_ratio)} clipped",
            "INT8": holds,
            "one scale with": ", ".join(short(name) for name in tensor.shares_with[:8]),
        }
    )


def _full_name(tensor: TensorExplanation) -> str:
    """Return the name as the table has it, where a converter strung several together."""
    if tensor.name == short(tensor.name):
        return ""
    return f'<p class="dim full-name">Full name: {printable(tensor.name)}</p>'


def _methods(tensor: TensorExplanation) -> str:
    head = "".join(
        f'<th scope="col"{css}>{name}</th>'
        for name, css in (("method", ""), *((n, ' class="n"') for n in METHOD_COLUMNS))
    )
    rows = "".join(
        f'<tr><th scope="row"><i class="swatch {COLOURS.get(name, "c5")}"></i>'
        f"{printable(name)}</th>"
        + "".join(f'<td class="n">{printable(cell)}</td>' for cell in _method_cells(tensor, name))
        + "</tr>"
        for name in tensor.methods
    )
    return f"{SCROLLED}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


METHOD_COLUMNS = ("SQNR dB", "clipped", "lo", "hi", "KL nats")


def _method_cells(tensor: TensorExplanation, name: str) -> tuple[str, ...]:
    method = tensor.methods[name]
    return (
        f"{method.sqnr_db:.1f}",
        clipped(method.clipped_ratio),
        number(method.lo),
        number(method.hi),
        "infinite" if method.divergence is None else number(method.divergence),
    )
