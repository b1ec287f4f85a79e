"""The parts of a bundle -> its report: one HTML page without scripts or other files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from edgeq.bundle import Manifest
from edgeq.calibrate.histogram import Histogram
from edgeq.explain.explanation import Explanation, LayerExplanation, TensorExplanation
from edgeq.observe.charts import histogram_svg, number, printable

FULL_BAR_DB = 60.0  # a bar this long fills its column
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class ReportParts:
    """What a report shows; `verdict` and `latency` are as their JSON has them."""

    manifest: Manifest
    verdict: Mapping[str, Any]
    explanation: Explanation
    histograms: Mapping[str, Histogram]
    latency: Sequence[Mapping[str, Any]] = ()
    plan: str = ""  # of the GPU's kernels, as text


def report_html(parts: ReportParts) -> str:
    """Return the page; every text from outside is escaped."""
    template = Template(resources.files(__package__).joinpath("report.html").read_text("utf-8"))
    explanation = parts.explanation
    return template.substitute(
        title=printable(f"{parts.manifest.name}: edgeq report"),
        name=printable(parts.manifest.name),
        facts=_facts(parts.manifest),
        verdict=_verdict(parts.verdict),
        latency=_latency(parts.latency) + _elsewhere(parts.manifest),
        worst=_worst(explanation),
        layers=_layers(explanation),
        tensors=_tensors(explanation, parts.histograms),
        plan=_plan(parts.plan),
    )


def engine_lines(details: Mapping[str, Any]) -> list[str]:
    """Say what a GPU's kernels are for, how they were chosen, and what runs beside them.

    Args:
        details: of the manifest; a backend's that was measured and not taken are in it too.
    """
    lines = [f"not on {name}: {reason}" for name, reason in details.get("refused", {}).items()]
    if "target" not in details:
        return lines
    tuned = "tuned on the GPU" if details.get("tuned") else f"not tuned: {details.get('tuning')}"
    lines.append(f"for {details['target']}, {details.get('kernels')} kernels, {tuned}")
    if "proven_by" in details:
        lines.append(f"proven by {details['proven_by']} here; its box checks the golden answers")
    on_cpu = details.get("cpu_ops", [])
    lines += [f"on the CPU: {op['index']} {op['name']}: {op['reason']}" for op in on_cpu]
    return lines


def _facts(manifest: Manifest) -> str:
    float_ops = "; ".join(
        f"{op.get('index')} {op.get('name')}: {op.get('reason')}" for op in manifest.float_ops
    )
    facts = {
        "engine": f"{manifest.engine}, ranges by {manifest.method}",
        "kernels": "; ".join(engine_lines(manifest.details)),
        "refined": ", ".join(manifest.refined),
        "samples": str(manifest.samples),
        "float ops": float_ops or "none",
        "model": f"SHA-256 {manifest.model_sha256}",
        "made": f"{_clock(manifest.created)} by edgeq {manifest.edgeq} on {manifest.runtime}",
    }
    rows = "".join(f"<dt>{k}</dt><dd>{printable(v)}</dd>" for k, v in facts.items() if v)
    return f"<dl>{rows}</dl>"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


# ---- verdict and latency

_OUTPUT_COLUMNS = {"agreement": ".2%", "accepted": ".2%", "cosine": ".4f", "sqnr_db": ".1f"}


def _verdict(verdict: Mapping[str, Any]) -> str:
    if not verdict:
        return '<p class="dim">None: this bundle was not judged.</p>'
    css, word = ("good", "passed") if verdict.get("passed") else ("bad", "refused")
    reasons = "".join(f"<li>{printable(str(r))}</li>" for r in _several(verdict.get("reasons")))
    thresholds = {"name": "the gate"} | dict(verdict.get("thresholds") or {})
    outputs = [row for row in _several(verdict.get("outputs")) if isinstance(row, Mapping)]
    rows = [
        (str(row.get("name")), *(_figure(row.get(k), form) for k, form in _OUTPUT_COLUMNS.items()))
        for row in (*outputs, thresholds)
    ]
    return (
        f'<p><strong class="{css}">{word}</strong> on '
        f"{printable(_figure(verdict.get('samples'), ',.0f'))} held-out samples</p>"
        f"<ul>{reasons}</ul>"
        f"{_table(('output', 'agreement', 'accepted', 'cosine', 'SQNR dB'), rows)}"
    )


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _figure(value: Any, form: str) -> str:
    """Return a number in its form; what is none, as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format(value, form)
    return NOTHING if value is None else str(value)


def _latency(latency: Sequence[Mapping[str, Any]]) -> str:
    if not latency:
        return '<p class="dim">Not in this bundle: see <code>edgeq bench</code>.</p>'
    keys = ("p50_ms", "p90_ms", "p99_ms")
    rows = [
        (str(row.get("engine")), *(_figure(row.get(key), ".3f") for key in keys)) for row in latency
    ]
    return _table(("engine", "p50 ms", "p90 ms", "p99 ms"), rows)


def _elsewhere(manifest: Manifest) -> str:
    if "proven_by" not in manifest.details:
        return ""
    return '<p class="dim">Measured where it was built, not on the box that it is for.</p>'


def _plan(text: str) -> str:
    if not text:
        return ""
    lines = "\n".join(printable(line) for line in text.splitlines())
    return (
        "<h2>Kernels</h2><details><summary>Each launch on the GPU</summary>"
        f'<div class="scroll"><pre>{lines}</pre></div></details>'
    )


# ---- layers


def _worst(explanation: Explanation) -> str:
    if not explanation.layers:
        return _unmeasured(explanation)
    if not explanation.worst:
        return "<p>None adds any noise.</p>"
    items = "".join(f"<li>{printable(each.text)}</li>" for each in explanation.worst)
    return (
        f'<ol>{items}</ol><p class="dim">Measured on {explanation.samples} held-out samples: what '
        "each op adds to the noise of what it reads, followed to the outputs.</p>"
    )


def _unmeasured(explanation: Explanation) -> str:
    reason = explanation.unmeasured or "no op of this model writes INT8"
    return f'<p class="dim">Not measured: {printable(reason)}.</p>'


def _layers(explanation: Explanation) -> str:
    if not explanation.layers:
        return _unmeasured(explanation)
    head = (
        '<tr><th>layer</th><th class="b">SQNR</th><th class="n">dB</th>'
        '<th class="n">loses</th><th class="n">share</th></tr>'
    )
    rows = "".join(_layer(layer) for layer in explanation.layers)
    return (
        f'<table class="layers">{head}{rows}</table><p class="dim">loses: dB against the same op '
        "in float on the same inputs; share: of the noise at the outputs, what starts here.</p>"
    )


def _layer(layer: LayerExplanation) -> str:
    width = 100 * min(max(layer.sqnr_db, 0.0), FULL_BAR_DB) / FULL_BAR_DB
    loses = NOTHING if layer.entered_db is None else f"{layer.entered_db:.1f}"
    return (
        f'<tr><td title="{printable(layer.tensor)}">{_short(layer.tensor)} '
        f'<span class="dim">{printable(layer.op)}</span></td>'
        f'<td class="b"><div class="bar" style="width:{width:.1f}%"></div></td>'
        f'<td class="n">{layer.sqnr_db:.1f}</td><td class="n">{loses}</td>'
        f'<td class="n">{layer.share:.1%}</td></tr>'
    )


def _short(name: str) -> str:
    """Return the first of the names that a converter strings together when it fuses ops."""
    return printable(name.split(";")[0] or name)


# ---- tensors


def _tensors(explanation: Explanation, histograms: Mapping[str, Histogram]) -> str:
    if not explanation.tensors:
        reason = "the model arrived with scales of its own, or its calibration is not in the bundle"
        return f'<p class="dim">None: {reason}.</p>'
    worst = {each.tensor for each in explanation.worst}
    return "".join(
        _tensor(tensor, histograms.get(tensor.name), is_open=tensor.name in worst)
        for tensor in explanation.tensors
    )


def _tensor(tensor: TensorExplanation, histogram: Histogram | None, *, is_open: bool) -> str:
    tags = " ".join(f'<span class="tag">{printable(tag)}</span>' for tag in tensor.tags)
    return (
        f"<details{' open' if is_open else ''}><summary>{_short(tensor.name)} {tags}</summary>"
        f'<div class="tensor">{_tensor_facts(tensor)}{_picture(tensor, histogram)}'
        f"{_methods(tensor)}</div></details>"
    )


def _picture(tensor: TensorExplanation, histogram: Histogram | None) -> str:
    if histogram is None:
        return '<figure class="dim">Its histogram is not in the bundle.</figure>'
    ranges = {name: (method.lo, method.hi) for name, method in tensor.methods.items()}
    if tensor.int8_lo is not None and tensor.int8_hi is not None:
        ranges["INT8"] = (tensor.int8_lo, tensor.int8_hi)
    return f"<figure>{histogram_svg(histogram, ranges, f'Values of {tensor.name}')}</figure>"


def _tensor_facts(tensor: TensorExplanation) -> str:
    holds = "stays float"
    if tensor.int8_lo is not None and tensor.int8_hi is not None:
        holds = f"{number(tensor.int8_lo)} to {number(tensor.int8_hi)}"
    facts = {
        "name": tensor.name,
        "values": f"{tensor.count:,} from {number(tensor.min)} to {number(tensor.max)}",
        "in use": f"{number(tensor.lo)} to {number(tensor.hi)} by {tensor.method}, "
        f"{tensor.clipped_ratio:.4%} clipped",
        "INT8": holds,
        "one scale with": ", ".join(name.split(";")[0] for name in tensor.shares_with),
    }
    rows = "".join(f"<dt>{k}</dt><dd>{printable(v)}</dd>" for k, v in facts.items() if v)
    return f"<dl>{rows}</dl>"


def _methods(tensor: TensorExplanation) -> str:
    rows = [
        (
            name,
            f"{method.sqnr_db:.1f}",
            f"{method.clipped_ratio:.4%}",
            number(method.lo),
            number(method.hi),
            "infinite" if method.divergence is None else number(method.divergence),
        )
        for name, method in tensor.methods.items()
    ]
    return _table(("method", "SQNR dB", "clipped", "lo", "hi", "KL nats"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of a name and figures."""
    head = "".join(_cell("th", i, cell) for i, cell in enumerate(header))
    body = "".join(
        "<tr>" + "".join(_cell("td", i, cell) for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(kind: str, column: int, text: str) -> str:
    css = ' class="n"' if column else ""
    return f"<{kind}{css}>{printable(text)}</{kind}>"
