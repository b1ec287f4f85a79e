"""Layers and tensors -> the five layers that cost most, in words, with what could be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.explain.comparison import COPIES
from edgeq.explain.explanation import Advice, LayerExplanation, TensorExplanation
from edgeq.quantize.scheme import RULES

WORST = 5
MAINLY = 0.5  # a cause explains a layer's noise if it accounts for half of it
SHARED = 2.0  # times as wide as its own range: 6 dB
CHANNELS = 16.0  # the median channel keeps 16 levels of 256
WEIGHTS = 32.0  # the median weight keeps 4 steps of 127
BETTER_DB = 1.0
LEVELS = 256
WEIGHT_STEPS = 127


def worst_layers(
    layers: Sequence[LayerExplanation], tensors: Sequence[TensorExplanation]
) -> tuple[Advice, ...]:
    """Return the layers where most of the outputs' noise starts, the worst first."""
    known = {tensor.name: tensor for tensor in tensors}
    costly = sorted((each for each in layers if each.share > 0.0), key=lambda e: -e.share)
    return tuple(advise(layer, known.get(layer.tensor)) for layer in costly[:WORST])


def advise(layer: LayerExplanation, tensor: TensorExplanation | None) -> Advice:
    """Say what a layer costs, why by what was measured, and what could be done."""
    cause, text = _cause(layer, tensor)
    loss = _loss(layer)
    cost = (
        f"{_short(layer.tensor)} ({layer.op}) {loss}, {layer.share:.0%} of the noise at the outputs"
    )
    return Advice(layer.index, layer.op, layer.tensor, cause, f"{cost}: {text}")


def _loss(layer: LayerExplanation) -> str:
    if layer.entered_db is None:
        return f"leaves {layer.sqnr_db:.1f} dB"
    if round(layer.entered_db, 1) >= 0.0:
        return f"loses {abs(layer.entered_db):.1f} dB"
    return f"is {-layer.entered_db:.1f} dB closer than what it reads"


def _short(name: str) -> str:
    """Return the first of the names that a converter strings together when it fuses ops."""
    return name.split(";")[0] or name


def _cause(layer: LayerExplanation, tensor: TensorExplanation | None) -> tuple[str, str]:
    if layer.saturated >= MAINLY:
        return "saturation", _saturation(layer, tensor)
    if layer.shift >= MAINLY:
        return "shift", (
            f"{layer.shift:.0%} of its error is a shift of its channels' means; "
            "bias correction would remove it"
        )
    if layer.op in COPIES or layer.rounding >= MAINLY * _own_share(layer):
        return _coarse(layer, tensor)
    if layer.weight_spread >= WEIGHTS:
        steps = WEIGHT_STEPS / layer.weight_spread
        return "weights", (
            f"a channel's largest weight is {layer.weight_spread:.0f} times its median one, which "
            f"keeps {steps:.1f} of {WEIGHT_STEPS} steps; clipping that weight in training, or "
            "keeping the op float, would help"
        )
    rule = RULES.get(layer.op)
    if rule is not None and rule.weights is not None:
        return "weight_rounding", (
            "most of what it adds comes from the rounding of its weights; "
            "keeping it float would help"
        )
    return "unclear", "no single cause stands out; keeping it float would help"


def _own_share(layer: LayerExplanation) -> float:
    """The share of the layer's noise that it adds itself."""
    ratio: float = 10.0 ** (layer.sqnr_db / 10.0)
    return min(1.0, layer.entered * ratio)


def _saturation(layer: LayerExplanation, tensor: TensorExplanation | None) -> str:
    is_upper = layer.saturated_high >= layer.saturated_low
    share = layer.saturated_high if is_upper else layer.saturated_low
    rail = "upper" if is_upper else "lower"
    text = f"{share:.2g} of its values" if share < 0.001 else f"{share:.1%} of its values"
    text = f"{text} saturate at the {rail} rail"
    if tensor is None or tensor.int8_lo is None or tensor.int8_hi is None:
        return f"{text}; more samples like those in the field would widen its range"
    end, seen = (tensor.int8_hi, tensor.max) if is_upper else (tensor.int8_lo, tensor.min)
    step = (tensor.int8_hi - tensor.int8_lo) / (LEVELS - 1)
    if abs(seen) > abs(end) + step:
        return (
            f"{text}, {end:.3g}, which {tensor.method} chose although the samples reach "
            f"{seen:.3g}; the method max would hold them"
        )
    return (
        f"{text}, {end:.3g}, beyond all that calibration saw; "
        "more samples like those in the field would widen its range"
    )


def _coarse(layer: LayerExplanation, tensor: TensorExplanation | None) -> tuple[str, str]:
    """Why its levels are too far apart."""
    rule = RULES.get(layer.op)
    if rule is not None and rule.fixed_output is not None:
        return "fixed", (
            f"its kernel demands steps of {rule.fixed_output[0]:.2g}; "
            "only keeping it float would help"
        )
    if tensor is not None and (shared := _shared(tensor)):
        return "shared", shared
    if tensor is not None and (better := _better_method(tensor)):
        return "method", better
    if layer.channel_spread >= CHANNELS:
        return "channels", (
            f"its channels' ranges differ: the widest is {layer.channel_spread:.0f} times the "
            f"median one, which keeps {LEVELS / layer.channel_spread:.0f} of {LEVELS} levels; "
            "equalization, or keeping it float, would help"
        )
    return "rounding", (
        f"it is rounded to {LEVELS} levels and that is most of its error; only keeping it "
        "float would help"
    )


def _shared(tensor: TensorExplanation) -> str:
    """Say whom it shares a far wider range with, or ""."""
    own = max(tensor.hi, 0.0) - min(tensor.lo, 0.0)
    if tensor.int8_lo is None or tensor.int8_hi is None or not tensor.shares_with or own == 0.0:
        return ""
    ratio = (tensor.int8_hi - tensor.int8_lo) / own
    if ratio < SHARED:
        return ""
    others = len(tensor.shares_with) - 1
    more = f" and {others} more" if others else ""
    return (
        f"it shares its scale with {_short(tensor.shares_with[0])}{more} and uses "
        f"{LEVELS / ratio:.0f} of {LEVELS} levels; "
        "keeping the ops that tie them float would give it one of its own"
    )


def _better_method(tensor: TensorExplanation) -> str:
    """Say which method would round this tensor finer, or ""."""
    methods: Mapping[str, float] = {name: m.sqnr_db for name, m in tensor.methods.items()}
    chosen = methods.get(tensor.method)
    if chosen is None:
        return ""
    best = max(methods, key=lambda name: methods[name])
    gain = methods[best] - chosen
    if gain < BETTER_DB:
        return ""
    return f"another range would round its values finer; by {best} it would be {gain:.1f} dB better"
