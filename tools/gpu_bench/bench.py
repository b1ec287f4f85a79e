"""Models and contestants -> rows: whole nets in each batch, and layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tools.gpu_bench.children import Answer, Clock, ask

Status = Literal["ok", "absent", "failed", "skipped"]


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    models: Sequence[tuple[str, Path]]
    batches: Sequence[int]
    nets: Sequence[str]  # contestants that run whole nets
    layers: Sequence[str]  # contestants that run single layers, at the first batch
    seconds: float  # of each timing
    limit_s: float  # of each child
    mode: str  # of torch.compile


@dataclass(frozen=True)
class NetRow:
    """One contestant's whole net in one batch, in one way of launching."""

    model: str
    batch: int
    contestant: str
    way: str  # 'graph', 'eager'; "" where nothing was measured
    status: Status
    reason: str = ""
    p50_ms: float | None = None  # from the host's memory to the host's memory
    p99_ms: float | None = None
    runs: int | None = None
    gpu_us: float | None = None  # of the net alone, its copies left out
    differing: int | None = None  # values that are not the CPU engine's
    details: Answer = field(default_factory=dict)


@dataclass(frozen=True)
class LayerRow:
    """One step of the engine's plan, and what others take for its convolution."""

    model: str
    batch: int
    rate: Answer  # tools.gpu_bench.rates.LayerRate
    extents: str = ""
    others: dict[str, Answer] = field(default_factory=dict)  # contestant -> us and form, or reason

    def ratio(self, contestant: str) -> float | None:
        """Return the engine's rate over the other's; None without both."""
        other = self.others.get(contestant, {}).get("us")
        return None if other is None else other / self.rate["microseconds"]


@dataclass(frozen=True)
class Results:
    """All rows of a run."""

    nets: tuple[NetRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()


def run(plan: Plan, clock: Clock) -> Iterator[Results]:
    """Yield the rows of one model in one batch after the other, the small batches first."""
    for batch in plan.batches:
        for name, path in plan.models:
            yield _one(plan, clock, name, path, batch)


def _one(plan: Plan, clock: Clock, name: str, path: Path, batch: int) -> Results:
    request = {"model": str(path), "batch": batch, "seconds": plan.seconds, "mode": plan.mode}

    def answer_of(contestant: str) -> Answer:
        return ask(contestant, request, clock, plan.limit_s)

    answers = {contestant: answer_of(contestant) for contestant in plan.nets}
    nets = [row for c, a in answers.items() for row in net_rows(name, batch, c, a)]
    rates = answers.get("edgeq", {}).get("layers", [])
    singles = plan.layers if batch == plan.batches[0] else ()
    others = {contestant: answer_of(contestant) for contestant in singles}
    nets += [_without(name, batch, c, a) for c, a in others.items() if a["status"] != "ok"]
    return Results(tuple(nets), layer_rows(name, batch, rates, others))


def net_rows(model: str, batch: int, contestant: str, answer: Answer) -> list[NetRow]:
    """Return a row for each way that was timed, or one that says why there is none."""
    row = _without(model, batch, contestant, answer)
    if answer["status"] != "ok":
        return [row]
    details = {k: v for k, v in answer.items() if k not in ("ways", "layers", "status")}
    bits = answer.get("bits")
    found = replace(row, differing=bits and bits["differing"], details=details)
    return [replace(found, way=way, **_figures(times)) for way, times in answer["ways"].items()]


def _without(model: str, batch: int, contestant: str, answer: Answer) -> NetRow:
    return NetRow(model, batch, contestant, "", answer["status"], answer.get("reason", ""))


def _figures(times: Answer) -> dict[str, Any]:
    return {name: times.get(name) for name in ("p50_ms", "p99_ms", "runs", "gpu_us")}


def layer_rows(
    model: str, batch: int, rates: Sequence[Answer], answers: dict[str, Answer]
) -> tuple[LayerRow, ...]:
    """Join the engine's steps and the others' layers by the ops' positions in the model."""
    others: dict[int, dict[str, Answer]] = {}
    extents: dict[int, str] = {}
    for contestant, answer in answers.items():
        for layer in answer.get("layers", []):
            others.setdefault(layer["position"], {})[contestant] = layer
            extents[layer["position"]] = layer["extents"]
    return tuple(_joined(model, batch, rate, others, extents) for rate in rates)


def _joined(
    model: str,
    batch: int,
    rate: Answer,
    others: dict[int, dict[str, Answer]],
    extents: dict[int, str],
) -> LayerRow:
    at = next((position for position in rate["positions"] if position in others), None)
    if at is None:
        return LayerRow(model, batch, rate)
    return LayerRow(model, batch, rate, extents[at], others[at])
