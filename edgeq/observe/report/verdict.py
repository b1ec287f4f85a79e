"""Verdict, latency and sizes -> the first thing that a report says, in words and large figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.observe.charts.marks import printable, short
from edgeq.observe.report.markup import dim, formatted, is_number, several, size, table
from edgeq.observe.report.parts import ReportParts

ENGINES = {"float": "float", "cpu-int8": "INT8 on the CPU", "cuda-int8": "INT8 on the GPU"}
OUTPUT_COLUMNS = {
    "agreement": ("same choice", ".2%"),
    "accepted": ("accepted", ".2%"),
    "cosine": ("cosine", ".4f"),
    "sqnr_db": ("SQNR dB", ".1f"),
}
AS_IS = "as-is"  # the method of a model that arrived as INT8
DIFFERENT = 1.02  # times as fast: less is the noise of measuring


@dataclass(frozen=True)
class Tile:
    """One large figure, and the limit or the base that it is to be seen against."""

    name: str
    value: str
    against: str
    is_bad: bool = False


def verdict_section(parts: ReportParts) -> str:
    """Return the verdict: a sentence, large figures, and each output against the gate."""
    verdict = parts.verdict
    if not verdict:
        word, css = "Not judged", "dim"
        said = f"<p>{printable(_built(parts))} None: this bundle was not judged.</p>"
    else:
        is_passed = bool(verdict.get("passed"))
        word, css = ("Passed", "good") if is_passed else ("Refused", "bad")
        said = f"<p>{printable(_built(parts))} {printable(_judged(verdict, _reference(parts)))}</p>"
    reasons = "".join(
        f"<li>{printable(str(each))}</li>" for each in several(verdict.get("reasons"))
    )
    tiles = "".join(_tile_html(tile) for tile in _tiles(parts))
    return (
        f'<div class="verdict {css}"><p class="word">{word}</p>{said}'
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div>"
        f'<ul class="tiles">{tiles}</ul>{_outputs(verdict)}{_replaced(verdict)}{_warnings(parts)}'
    )


def engine_name(kind: str) -> str:
    """Return an engine's kind in words."""
    return ENGINES.get(kind, kind)


def _built(parts: ReportParts) -> str:
    manifest = parts.manifest
    if manifest.engine == "float":
        return "This is the float model as it arrived."
    kept = len(manifest.float_ops)
    ops = f", {kept} {'op' if kept == 1 else 'ops'} kept float" if kept else ""
    refined = [name.replace("_", " ") for name in manifest.refined]
    after = f", with {_listed(refined)}" if refined else ""
    scales = (
        "with the scales it arrived with"
        if manifest.method == AS_IS
        else f"with ranges by {manifest.method} from {manifest.samples:,} samples"
    )
    return f"Built: {engine_name(manifest.engine)}, {scales}{after}{ops}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _reference(parts: ReportParts) -> str:
    """What the engine was compared with."""
    return "the runtime's reference kernels" if parts.manifest.method == AS_IS else "float"


def _judged(verdict: Mapping[str, Any], reference: str) -> str:
    """Say in words what the gate compared, and against what."""
    outputs, gate = _rows(verdict), _gate(verdict)
    on = f"on {formatted(verdict.get('samples'), ',')} held-out samples"
    if not outputs:
        return f"It was judged {on}."
    scored = [row for row in outputs if is_number(row.get("accepted"))]
    if scored:
        model = "the float model" if reference == "float" else reference
        worst = min(scored, key=lambda row: float(row["accepted"]))
        same = formatted(worst.get("agreement"), ".1%")
        text = (
            f"It gives the answer of {model} {on}: {formatted(worst['accepted'], '.1%')} of "
            f"the time (the same first choice in {same}; a choice between near-equals counts), "
            f"where the gate asks for {formatted(gate.get('agreement'), '.1%')}"
            f"{_doubt(worst, gate)}"
        )
    else:
        text = (
            f"Against {reference} {on} it has {_worst(outputs)}; the gate asks for a cosine of "
            f"{formatted(gate.get('cosine'), '.4g')} and {formatted(gate.get('sqnr_db'), '.4g')} dB"
        )
    return text + "."


def _worst(outputs: Sequence[Mapping[str, Any]]) -> str:
    cosines, decibels = (
        [row[key] for row in outputs if is_number(row.get(key))] for key in ("cosine", "sqnr_db")
    )
    if not cosines or not decibels:
        return "no figures"
    which = " on its worst output" if len(outputs) > 1 else ""
    return f"a cosine of {min(cosines):.4f} and an SQNR of {min(decibels):.1f} dB{which}"


def _doubt(row: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """Say why a share below the gate's is not refused: a few samples prove little."""
    share, upper, limit = row["accepted"], row.get("accepted_upper"), gate.get("agreement")
    if not (is_number(share) and is_number(upper) and is_number(limit)):
        return ""
    if share >= limit or upper < limit:
        return ""
    return f"; with so few samples the true share may be as high as {formatted(upper, '.1%')}"


def _rows(verdict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in several(verdict.get("outputs")) if isinstance(row, Mapping)]


def _gate(verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    gate = verdict.get("thresholds")
    return gate if isinstance(gate, Mapping) else {}


def _tiles(parts: ReportParts) -> list[Tile]:
    return [
        *_fidelity(parts.verdict),
        *_speed(parts.latency, parts.manifest.engine),
        *_sizes(parts),
    ]


def _fidelity(verdict: Mapping[str, Any]) -> list[Tile]:
    """Of several outputs the worst; scores are judged by choice, all else by cosine and SQNR."""
    outputs, gate, passed = _rows(verdict), _gate(verdict), bool(verdict.get("passed"))
    scores = [row for row in outputs if is_number(row.get("accepted"))]
    others = [row for row in outputs if row not in scores]

    def tile(name: str, rows: list[Mapping[str, Any]], key: str, form: str, limit: Any) -> Tile:
        worst = min(row[key] for row in rows if is_number(row.get(key)))
        unit = " dB" if key == "sqnr_db" else ""
        judged = f"at least {formatted(limit, '.0%' if '%' in form else '.4g')}{unit}"
        is_below = is_number(limit) and worst < limit
        judged += ", within chance" if is_below and passed else ""
        where = "worst output, " if len(rows) > 1 else ""
        against = judged if limit is not None else "signal to noise; not judged here"
        return Tile(name, f"{format(worst, form)}{unit}", where + against, is_below and not passed)

    wanted = (
        ("answers as float", scores, "accepted", ".1%", gate.get("agreement")),
        ("cosine", others, "cosine", ".4f", gate.get("cosine")),
        ("SQNR", others or scores, "sqnr_db", ".1f", gate.get("sqnr_db") if others else None),
    )
    return [tile(*each) for each in wanted if any(is_number(r.get(each[2])) for r in each[1])]


def _speed(latency: Sequence[Mapping[str, Any]], engine: str) -> list[Tile]:
    times = {str(row.get("engine")): row.get("p50_ms") for row in latency}
    ours, base = times.get(engine), times.get("float")
    if not is_number(ours) or not ours:
        return []
    if engine == "float" or not is_number(base):
        return [Tile("latency", f"{ours:.3g} ms", "half of the runs end by then")]
    ratio = base / ours
    if ratio >= DIFFERENT:
        value = f"{ratio:.2f}\N{MULTIPLICATION SIGN} faster"
    elif ratio <= 1 / DIFFERENT:
        value = f"{1 / ratio:.2f}\N{MULTIPLICATION SIGN} slower"
    else:
        value = "as fast"
    against = f"{ours:.3g} ms, float {base:.3g} ms"
    return [Tile("speed against float", value, against, ratio <= 1 / DIFFERENT)]


def _sizes(parts: ReportParts) -> list[Tile]:
    if not parts.bytes_int8 or not parts.bytes_float:
        return []
    if parts.manifest.method == AS_IS:
        return [Tile("size", size(parts.bytes_int8), "as it arrived")]
    share = parts.bytes_int8 / parts.bytes_float
    return [Tile("size", size(parts.bytes_int8), f"{share:.0%} of {size(parts.bytes_float)}")]


def _tile_html(tile: Tile) -> str:
    css = ' class="bad"' if tile.is_bad else ""
    return (
        f"<li><span>{printable(tile.name)}</span><strong{css}>{printable(tile.value)}</strong>"
        f"<small>{printable(tile.against)}</small></li>"
    )


def _outputs(verdict: Mapping[str, Any]) -> str:
    """Each output against the gate; agreement is judged by what was accepted."""
    outputs = _rows(verdict)
    if not outputs:
        return ""
    gate = _gate(verdict)
    limits = {"name": "the gate asks for", "accepted": gate.get("agreement"), **gate}
    limits["agreement"] = None
    shown = {
        key: column
        for key, column in OUTPUT_COLUMNS.items()
        if any(row.get(key) is not None for row in outputs)
    }
    rows = [
        (
            short(str(row.get("name"))),
            *(formatted(row.get(key), form) for key, (_, form) in shown.items()),
        )
        for row in (*outputs, limits)
    ]
    return table(("output", *(name for name, _ in shown.values())), rows)


def _replaced(verdict: Mapping[str, Any]) -> str:
    """The engine that served when this one was built, pair by pair; "" where there was none."""
    comparison = verdict.get("comparison")
    if not isinstance(comparison, Mapping):
        return ""
    sets = {"what inputs are now": comparison.get("new"), "what they were": comparison.get("old")}
    rows = [
        (
            name,
            formatted(found.get("samples"), ",.0f"),
            formatted(found.get("gained"), ",.0f"),
            formatted(found.get("lost"), ",.0f"),
            formatted(found.get("gain_db"), "+.1f"),
            formatted(found.get("chance"), ".2%"),
        )
        for name, found in sets.items()
        if isinstance(found, Mapping)
    ]
    header = ("held-out samples of", "samples", "choices gained", "lost", "SQNR dB", "by chance")
    return "<h3>Against the engine that it replaces</h3>" + table(header, rows) if rows else ""


def _warnings(parts: ReportParts) -> str:
    dropped = parts.record.dropped
    said = [*parts.record.warnings]
    if dropped:
        noun = "sample" if dropped == 1 else "samples"
        said.append(f"{dropped} {noun} could not be used and were left out")
    return "".join(dim(f"Note: {each}.") for each in said)
