"""What a look at the drift windows found -> the metrics of a model."""

from __future__ import annotations

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
        low = (drift.low_ratio, drift.low_reference, drift.low_threshold)
        high = (drift.high_ratio, drift.high_reference, drift.high_threshold)
        _show_rail(metrics, labels, "low", low)
        _show_rail(metrics, labels, "high", high)


def _show_rail(
    metrics: Metrics, labels: tuple[str, str], rail: str, figures: tuple[float, float, float]
) -> None:
    live, reference, threshold = figures
    metrics.saturation.labels(*labels, rail).set(live)
    metrics.saturation_reference.labels(*labels, rail).set(reference)
    metrics.drift_threshold.labels(*labels, f"saturation_{rail}").set(threshold)
