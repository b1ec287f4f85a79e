"""INT8 ops and ranges -> where one scale for all costs a tensor its levels, and what to do.

Kernels that move raw integers demand one scale for all they join (a CONCATENATION of others does
not load, on XNNPACK nor on the built-in kernels), so that scores beside boxes of +-100 keep 3
levels of 256. Two ways out, and the union of the ranges where neither would bring anything:

- float: the tensors are joined in float. At the graph's tail, where the result is float anyway,
  and in front of a SPLIT, behind which every part takes a scale of its own again.
- apart: the narrow tensor keeps a scale of its own for its other readers, and is requantized
  where it is joined. This is what a skip connection or a dense block needs.

What reads the joined tensor as a whole, in INT8, sees the union in any case. Ranges suffice to
decide: what is compared is a tensor's step with and without the others, on its way from where it
is made to where it is read. UltraFace joins levels whose steps differ by up to 10.5 dB: in float
they score -0.02 to +0.4 dB, and the level concerned scores no better. So 12 dB is where it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgeq.quantize.affine import activation_parameters
from edgeq.quantize.ranges import Range
from edgeq.quantize.scheme import Rule
from edgeq.quantize.sharing import (
    Cut,
    activations,
    constant_range,
    float_constants,
    shared_parameters,
)
from edgeq.tflite.model import Model

TOO_COARSE = 4.0  # a shared step this many times a tensor's own: 12 dB, 64 of 256 levels left
LEVELS = 255  # steps of an INT8 range
AS_GOOD = 2.0**0.5  # steps within 3 dB: requantizing adds about as much, and stays INT8

Vector = tuple[int, ...]
Steps = Mapping[int, float]  # tensor -> the scale of its int8 twin
Paths = Mapping[tuple[int, int, str], float]  # made, read, how -> the coarsest step between


@dataclass(frozen=True)
class Remedy:
    """Ops that must stay float, and why; and what an op must read by a scale of its own."""

    float_ops: Mapping[int, str] = field(default_factory=dict)
    apart: frozenset[Cut] = frozenset()


@dataclass(frozen=True)
class Choice:
    """The ops chosen for INT8, and all that decides their scales."""

    model: Model
    rules: Mapping[int, Rule]
    ranges: Mapping[int, Range]
    apart: frozenset[Cut] = frozenset()

    def steps(
        self, without: Iterable[int] = (), apart: frozenset[Cut] = frozenset()
    ) -> dict[int, float]:
        """Return every scale, with these ops float or these inputs apart."""
        left_out = set(without)
        rules = {p: rule for p, rule in self.rules.items() if p not in left_out}
        chosen = shared_parameters(self.model, rules, self.ranges, self.apart | apart)
        return {tensor: float(parameters.scale[0]) for tensor, parameters in chosen.items()}


def remedy(choice: Choice) -> Remedy | None:
    """Return what keeps a tensor from being read far coarser than it need be, or None.

    One thing at a time: once it is done, the question is another one.
    """
    before = choice.steps()
    found = (_remedy(choice, piece, before) for piece in _pieces(choice))
    return next((each for each in found if each is not None), None)


@dataclass(frozen=True)
class _Piece:
    """Ops that share one scale through tensors, in order of execution."""

    positions: tuple[int, ...]
    reads: Mapping[int, Vector]  # op -> its activations and constants
    writes: Mapping[int, Vector]

    @property
    def tensors(self) -> set[int]:
        return {t for ts in (*self.reads.values(), *self.writes.values()) for t in ts}

    @property
    def sources(self) -> list[int]:
        written = {t for tensors in self.writes.values() for t in tensors}
        return sorted(self.tensors - written)

    def joins(self, position: int) -> bool:
        return len(set(self.reads[position])) > 1


def _pieces(choice: Choice) -> list[_Piece]:
    """Return the ops that share scales, grouped by the tensors that tie them."""
    reads, writes, at = {}, {}, dict[int, list[int]]()
    for position, rule in choice.rules.items():
        operator = choice.model.operators[position]
        data, outputs = activations(choice.model, operator, rule)
        if not (rule.shares_scale and outputs):
            continue
        if rule.covers_constants:
            data += float_constants(choice.model, operator, rule)
        reads[position], writes[position] = tuple(data), tuple(outputs)
        for tensor in {*data, *outputs}:
            at.setdefault(tensor, []).append(position)
    pieces, seen = [], set[int]()
    for start in reads:
        if start not in seen:
            tied = _tied(start, at, reads, writes)
            seen |= tied
            order = tuple(sorted(tied))
            pieces.append(
                _Piece(order, {p: reads[p] for p in order}, {p: writes[p] for p in order})
            )
    return pieces


def _tied(start: int, at: Mapping[int, list[int]], *tensors: Mapping[int, Vector]) -> set[int]:
    """Return the ops that tensors tie to `start`, directly or through others."""
    tied, frontier = {start}, [start]
    while frontier:
        position = frontier.pop()
        for tensor in (t for group in tensors for t in group[position]):
            new = [p for p in at[tensor] if p not in tied]
            tied.update(new)
            frontier.extend(new)
    return tied


def _remedy(choice: Choice, piece: _Piece, before: Steps) -> Remedy | None:
    own = {t: _own_step(choice, t) for t in piece.tensors}
    coarsest = max(before[t] for t in piece.tensors if t in before)
    if coarsest < TOO_COARSE * min(own.values()):
        return None
    now = _paths(choice, piece, before, frozenset())
    floats = _floatable(choice, piece)
    apart = _apart(choice, piece, before)
    in_float = _paths(choice, piece, choice.steps(without=floats), floats)
    requantized = _paths(choice, piece, choice.steps(apart=apart), frozenset())
    gain, worst, step = _gain(now, in_float, own)
    gain_apart, _, _ = _gain(now, requantized, own)
    if gain_apart >= TOO_COARSE and gain_apart * AS_GOOD >= gain:
        return Remedy(apart=apart)
    if gain < TOO_COARSE:
        return None
    levels = round(LEVELS * own[worst] / step) + 1
    return Remedy(float_ops=_reasons(choice, piece, floats, worst, levels))


def _own_step(choice: Choice, tensor: int) -> float:
    if choice.model.is_constant(tensor):
        span = constant_range(choice.model, tensor)
    else:
        span = choice.ranges.get(tensor, (0.0, 0.0))
    return float(activation_parameters(*span).scale[0])


def _floatable(choice: Choice, piece: _Piece) -> frozenset[int]:
    """Return the movers that join tensors or read what is float anyway, and those behind them."""
    producers = choice.model.producers()
    is_float = {t for t in piece.sources if producers.get(t) not in choice.rules}
    chosen: set[int] = set()
    for position in piece.positions:
        reads_float = not is_float.isdisjoint(piece.reads[position])
        if choice.rules[position].moves_only and (piece.joins(position) or reads_float):
            chosen.add(position)
            is_float.update(piece.writes[position])
    return frozenset(chosen)


def _apart(choice: Choice, piece: _Piece, before: Steps) -> frozenset[Cut]:
    """Return the inputs of joining ops that would have a far finer scale of their own."""
    model = choice.model
    cuts = {
        (p, t)
        for p in piece.positions
        if piece.joins(p)
        for t in piece.reads[p]
        if not model.is_constant(t)
    }
    alone = choice.steps(apart=frozenset(cuts))
    return frozenset((p, t) for p, t in cuts if alone[t] * TOO_COARSE <= before[t])


def _paths(choice: Choice, piece: _Piece, steps: Steps, floats: frozenset[int]) -> Paths:
    """Return the coarsest step from where each tensor is made to each place that reads it."""
    model, arrived = choice.model, _arrived(choice, piece, steps, floats)
    consumers, paths = model.consumers(), {}
    for tensor, sources in arrived.items():
        readers = [p for p in consumers.get(tensor, []) if p not in piece.reads]
        in_float = tensor in model.outputs or any(p not in choice.rules for p in readers)
        in_int8 = any(p in choice.rules for p in readers)
        for source, step in sources.items():
            if in_float:
                paths[source, tensor, "float"] = step
            if in_int8:
                paths[source, tensor, "int8"] = max(step, steps.get(tensor, 0.0))
    return paths


def _arrived(
    choice: Choice, piece: _Piece, steps: Steps, floats: frozenset[int]
) -> dict[int, dict[int, float]]:
    """Return for every tensor of the piece the coarsest step since each of its sources."""
    producers = choice.model.producers()
    arrived = {t: {t: steps[t] if producers.get(t) in choice.rules else 0.0} for t in piece.sources}
    for position in piece.positions:
        for written in piece.writes[position]:
            at_least = 0.0 if position in floats else steps[written]
            into = arrived.setdefault(written, {})
            for tensor in piece.reads[position]:
                for source, step in arrived[tensor].items():
                    into[source] = max(into.get(source, 0.0), step, at_least)
    return arrived


def _gain(now: Paths, then: Paths, own: Steps) -> tuple[float, int, float]:
    """Return by how many times a path's step becomes finer, at most; its narrower end, its step."""
    gains = []
    for path, step in now.items():
        narrower = min(path[:2], key=lambda tensor: own[tensor])
        gains.append((step / max(then[path], own[narrower]), narrower, step))
    return max(gains, default=(0.0, -1, 0.0))


def _reasons(
    choice: Choice, piece: _Piece, floats: frozenset[int], worst: int, levels: int
) -> dict[int, str]:
    """Say for each op which tensor would lose how much."""
    loss = f"would leave {choice.model.name(worst)!r} {levels} of 256 levels"
    reasons = {}
    for position in floats:
        steps = [_own_step(choice, t) for t in piece.reads[position]]
        ratio = max(steps) / min(steps)
        reasons[position] = (
            f"its inputs' ranges differ {ratio:.0f} times; one INT8 scale for all {loss}"
            if ratio >= TOO_COARSE
            else f"one INT8 scale for all that it moves {loss}"
        )
    return reasons
