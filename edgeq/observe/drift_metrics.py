"""What a look at the drift windows found -> the metrics of a model."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.drift.state import DriftState, TensorDrift
from edgeq.drift.watch import StreamWatch
from edgeq.observe.metrics import Metrics

ON_A_GRID = frozenset({"input", "output", "activation"})  # kinds that can saturate


def show_drift(metrics: Metrics, model: str, state: DriftState, watch: StreamWatch) -> None:
    """Set the gauges of every stream, and count the faults of frames since the last time."""
    metrics.drift_active.labels(model).set(state.active)
    metrics.drift_window.labels(model).set(state.frames)
    for tensor in state.tensors:
        _show_tensor(metrics, model, tensor)
    for health in watch.health():
        metrics.identical_frames.labels(model, health.tensor).set(health.identical_frames)
    for (name, fault), count in watch.take_faults().items():
        metrics.input_health.labels(model, name, fault).inc(count)


def _show_tensor(metrics: Metrics, model: str, drift: TensorDrift) -> None:
    labels = (model, drift.tensor)
    metrics.drift_psi.labels(*labels).set(drift.psi)
    metrics.drift_js.labels(*labels).set(drift.js_distance)
    metrics.drift_frames.labels(*labels).set(drift.frames)
    metrics.drift_threshold.labels(*labels, drift.statistic).set(drift.threshold)
    if drift.wasserstein_ratio is not None:
        metrics.drift_wasserstein.labels(*labels).set(drift.wasserstein_ratio)
    if drift.ks_ratio is not None:
        metrics.drift_ks.labels(*labels).set(drift.ks_ratio)
    if drift.kind in ON_A_GRID:
        metrics.scale_drift.labels(*labels).set(drift.scale_ratio)
        live = {"low": drift.low_ratio, "high": drift.high_ratio}
        then = {"low": drift.low_reference, "high": drift.high_reference}
        _show_rails(metrics, labels, live, then)


def _show_rails(
    metrics: Metrics,
    labels: tuple[str, str],
    live: Mapping[str, float],
    then: Mapping[str, float],
) -> None:
    for rail, ratio in live.items():
        metrics.saturation.labels(*labels, rail).set(ratio)
        metrics.saturation_reference.labels(*labels, rail).set(then[rail])
