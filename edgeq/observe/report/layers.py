"""Layers and what they cost -> a chart over depth, the worst in words, all in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgeq.explain.explanation import Explanation, LayerExplanation
from edgeq.observe.charts.depth import Depth, depth_picture
from edgeq.observe.charts.marks import printable, short
from edgeq.observe.report.markup import NOTHING, SCROLLED, dim, figure, folded, table
from edgeq.observe.report.parts import ReportParts

MOST_OPEN = 8  # ops: with more, their kinds are counted and the rest is folded


def layers_section(parts: ReportParts) -> str:
    """Return where the error enters, from input to output."""
    explanation = parts.explanation
    if not explanation.layers:
        reason = explanation.unmeasured or "no op of this model writes INT8"
        return f'<p class="dim">Not measured: {printable(reason)}.</p>'
    ranks = {advice.index: place for place, advice in enumerate(explanation.worst, 1)}
    drawn = depth_picture([_depth(layer, ranks) for layer in explanation.layers])
    samples = explanation.samples
    on = f"on {samples} held-out {'sample' if samples == 1 else 'samples'}"
    note = dim(
        f"Measured {on}: what each op adds to the noise of what it reads, followed to the outputs."
    )
    return (
        figure(drawn, "Above: dB against float, higher is better. Below: share of the noise.")
        + _worst(explanation)
        + note
        + folded(f"All {len(explanation.layers)} layers", _every_layer(explanation))
    )


def float_ops_section(parts: ReportParts) -> str:
    """Return which ops are not INT8, and why."""
    ops = parts.manifest.float_ops
    if parts.manifest.engine == "float":
        return dim("All: this is the float model.")
    if not ops:
        return "<p>None: every op that can be is INT8.</p>"
    rows = [(str(op.get("name")), str(op.get("index")), _reason(op)) for op in ops]
    listed = "".join(
        f'<tr><th scope="row">{printable(name)}</th><td class="n">{printable(index)}</td>'
        f"<td>{printable(reason)}</td></tr>"
        for name, index, reason in rows
    )
    content = (
        f'{SCROLLED}<table><thead><tr><th scope="col">op</th>'
        '<th scope="col" class="n">position</th><th scope="col">why</th></tr></thead>'
        f"<tbody>{listed}</tbody></table></div>"
    )
    if len(rows) <= MOST_OPEN:
        return content
    counts = Counter(name for name, _, _ in rows).most_common()
    kinds = ", ".join(f"{count} {name}" for name, count in counts)
    return f"<p>{printable(kinds)}.</p>{folded(f'All {len(rows)}, and why each', content)}"


def _reason(op: Mapping[str, Any]) -> str:
    return str(op.get("reason") or NOTHING)


def _depth(layer: LayerExplanation, ranks: Mapping[int, int]) -> Depth:
    loses = "" if layer.entered_db is None else f", loses {layer.entered_db:.1f} dB"
    words = f"{short(layer.tensor)} ({layer.op}): {layer.sqnr_db:.1f} dB{loses}"
    share = f", {layer.share:.1%} of the noise"
    return Depth(words + share, layer.sqnr_db, layer.share, ranks.get(layer.index, 0))


def _worst(explanation: Explanation) -> str:
    if not explanation.worst:
        return "<p>None adds any noise.</p>"
    items = "".join(f"<li>{printable(each.text)}</li>" for each in explanation.worst)
    return f'<h3>The layers that cost most</h3><ol class="worst">{items}</ol>'


def _every_layer(explanation: Explanation) -> str:
    rows = [
        (
            short(layer.tensor),
            layer.op,
            f"{layer.sqnr_db:.1f}",
            NOTHING if layer.entered_db is None else f"{layer.entered_db:.1f}",
            f"{layer.share:.1%}",
            f"{layer.saturated_low + layer.saturated_high:.3%}",
        )
        for layer in explanation.layers
    ]
    header = ("layer", "op", "SQNR dB", "loses dB", "share", "saturated")
    return table(header, rows) + dim(
        "loses: against the same op in float on the same inputs; share: of the noise at the "
        "outputs, what starts here; saturated: values beyond what its INT8 range holds."
    )
