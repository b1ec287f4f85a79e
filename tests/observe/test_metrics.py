from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeq.observe.board import QUANTITIES, Reading
from edgeq.observe.metrics import (
    BUILD_OUTCOMES,
    DROP_OUTCOMES,
    FAULT_KINDS,
    LATENCY_BUCKETS,
    MODEL_STATES,
    SWAP_OUTCOMES,
    Metrics,
)

ROOT = Path(__file__).resolve().parents[2]

DECLARED = {  # name -> type and labels, as dashboards and alerts rely on them
    "edgeq_request_duration_seconds": ("histogram", "model version protocol"),
    "edgeq_requests_total": ("counter", "model version protocol code"),
    "edgeq_infer_duration_seconds": ("histogram", "model version engine"),
    "edgeq_queue_duration_seconds": ("histogram", "model"),
    "edgeq_queue_length": ("gauge", "model"),
    "edgeq_model_info": ("gauge", "model version engine method"),
    "edgeq_model_state": ("gauge", "model state"),
    "edgeq_swaps_total": ("counter", "model outcome"),
    "edgeq_swap_duration_seconds": ("histogram", "model"),
    "edgeq_build_duration_seconds": ("histogram", "model stage"),
    "edgeq_builds_total": ("counter", "model outcome"),
    "edgeq_shadow_disagreement_ratio": ("gauge", "model"),
    "edgeq_verify_agreement_ratio": ("gauge", "model"),
    "edgeq_verify_sqnr_decibels": ("gauge", "model"),
    "edgeq_drops_total": ("counter", "outcome"),
    "edgeq_faults_total": ("counter", "kind"),
    "edgeq_safe_mode": ("gauge", ""),
    "edgeq_hung_threads": ("gauge", ""),
    "edgeq_samples": ("gauge", "model set"),
    "edgeq_samples_bytes": ("gauge", "model"),
    "edgeq_drift_psi": ("gauge", "model tensor"),
    "edgeq_drift_js_distance": ("gauge", "model tensor"),
    "edgeq_drift_wasserstein_ratio": ("gauge", "model tensor"),
    "edgeq_drift_ks_ratio": ("gauge", "model tensor"),
    "edgeq_drift_threshold": ("gauge", "model tensor statistic"),
    "edgeq_drift_window_samples": ("gauge", "model"),
    "edgeq_drift_active": ("gauge", "model"),
    "edgeq_saturation_ratio": ("gauge", "model tensor rail"),
    "edgeq_saturation_reference_ratio": ("gauge", "model tensor rail"),
    "edgeq_scale_drift_ratio": ("gauge", "model tensor"),
    "edgeq_drift_stream_samples": ("gauge", "model tensor"),
    "edgeq_input_health_total": ("counter", "model tensor fault"),
    "edgeq_input_identical_frames": ("gauge", "model tensor"),
    "edgeq_recalibrations_total": ("counter", "model outcome"),
    "edgeq_build_info": ("gauge", "version runtime"),
    "edgeq_samples_max_bytes": ("gauge", "model"),
    "edgeq_device_temperature_celsius": ("gauge", "zone"),
    "edgeq_device_gpu_utilization_ratio": ("gauge", "gpu"),
    "edgeq_device_memory_bytes": ("gauge", "kind"),
    "edgeq_device_power_watts": ("gauge", "rail"),
    "edgeq_device_source_up": ("gauge", "source"),
    "edgeq_state_filesystem_size_bytes": ("gauge", ""),
    "edgeq_state_filesystem_available_bytes": ("gauge", ""),
    "process_cpu_seconds_total": ("counter", ""),
    "process_max_fds": ("gauge", ""),
    "process_open_fds": ("gauge", ""),
    "process_resident_memory_bytes": ("gauge", ""),
    "process_start_time_seconds": ("gauge", ""),
    "process_virtual_memory_bytes": ("gauge", ""),
}

BOARD = [Reading(name, "x" if quantity.label else "", 1.0) for name, quantity in QUANTITIES.items()]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0.1.0", "ai-edge-litert 2.3.0")


def used(metrics: Metrics) -> Metrics:
    """Every instrument with a series, as after a day of service."""
    metrics.watch_model("face", lambda: 3.0)
    metrics.watch_samples("face", {"fit": 30.0, "held_out": 10.0}.__getitem__, lambda: 4096.0)
    metrics.request_duration.labels("face", "1", "http").observe(0.002)
    metrics.requests.labels("face", "1", "http", "200").inc()
    metrics.infer_duration.labels("face", "1", "cpu-int8").observe(0.001)
    metrics.queue_duration.labels("face").observe(0.0001)
    metrics.set_live("face", "1", "cpu-int8", "entropy")
    metrics.swap_duration.labels("face").observe(0.2)
    metrics.build_duration.labels("face", "calibrate").observe(1.5)
    metrics.verify_agreement.labels("face").set(0.99)
    metrics.shadow_disagreement.labels("face").set(0.01)
    metrics.verify_sqnr.labels("face").set(31.5)
    for gauge in (metrics.drift_psi, metrics.drift_js, metrics.drift_wasserstein,
                  metrics.drift_ks, metrics.scale_drift, metrics.drift_frames,
                  metrics.identical_frames):  # fmt: skip
        gauge.labels("face", "image").set(0.1)
    metrics.drift_threshold.labels("face", "image", "psi").set(0.1)
    metrics.drift_window.labels("face").set(200)
    metrics.saturation.labels("face", "image", "low").set(0.0)
    metrics.saturation_reference.labels("face", "image", "low").set(0.0)
    metrics.input_health.labels("face", "image", "stuck").inc()
    metrics.samples_max_bytes.labels("face").set(8192.0)
    metrics.watch_board(lambda: (BOARD, {"temperature": True}))
    return metrics


def exposed(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> its label values, in the order declared -> value."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        order = DECLARED[name][1].split()
        for sample in family.samples:
            labels = tuple(sample.labels[label] for label in order)
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def declared(metrics: Metrics) -> dict[str, tuple[str, str]]:
    found = {}
    for family in text_string_to_metric_families(used(metrics).page().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = [label for label in family.samples[0].labels if label != "le"]
        found[name] = (family.type, " ".join(sorted(labels)))
    return found


# ---- names


def test_every_metric_has_the_name_type_and_labels_that_others_rely_on(metrics):
    expected = {
        name: (kind, " ".join(sorted(labels.split()))) for name, (kind, labels) in DECLARED.items()
    }
    assert declared(metrics) == expected


def test_every_metric_is_in_the_readme(metrics):
    readme = (ROOT / "README.md").read_text()
    assert [name for name in declared(metrics) if name not in readme] == []


def test_promtool_has_nothing_to_object(metrics, prometheus_tools):
    command = [prometheus_tools / "promtool", "check", "metrics"]
    checked = subprocess.run(
        command, input=used(metrics).page(), capture_output=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_two_daemons_in_one_process_do_not_share_a_registry(metrics):
    other = Metrics("0.1.0", "other")
    other.drops.labels("accepted").inc()
    assert exposed(metrics)["edgeq_drops_total"][("accepted",)] == 0


def test_counters_have_no_second_series_for_their_creation(metrics):
    assert not any(name.endswith("_created") for name in exposed(used(metrics)))


# ---- what is there before the first event


def test_known_label_values_start_at_zero(metrics):
    assert exposed(metrics)["edgeq_drops_total"] == dict.fromkeys(
        [(outcome,) for outcome in DROP_OUTCOMES], 0.0
    )
    assert exposed(metrics)["edgeq_faults_total"] == dict.fromkeys(
        [(kind,) for kind in FAULT_KINDS], 0.0
    )
    metrics.watch_model("face", lambda: 0.0)
    samples = exposed(metrics)
    for name, outcomes in (
        ("edgeq_swaps_total", SWAP_OUTCOMES),
        ("edgeq_builds_total", BUILD_OUTCOMES),
        ("edgeq_recalibrations_total", BUILD_OUTCOMES),
    ):
        assert samples[name] == {("face", outcome): 0.0 for outcome in outcomes}
    assert samples["edgeq_drift_active"] == {("face",): 0.0}


def test_one_state_is_one_and_all_others_are_zero(metrics):
    metrics.watch_model("face", lambda: 0.0)
    metrics.set_state("face", "probation")
    states = exposed(metrics)["edgeq_model_state"]
    assert states == {("face", state): float(state == "probation") for state in MODEL_STATES}


def test_the_build_info_names_release_and_runtime(metrics):
    assert exposed(metrics)["edgeq_build_info"] == {("0.1.0", "ai-edge-litert 2.3.0"): 1.0}


def test_figures_of_queue_and_store_are_read_at_each_scrape(metrics):
    lengths = iter([3.0, 5.0])
    metrics.watch_model("face", lambda: next(lengths))
    assert exposed(metrics)["edgeq_queue_length"] == {("face",): 3.0}
    assert exposed(metrics)["edgeq_queue_length"] == {("face",): 5.0}
    metrics.queue_length.labels("face").set_function(lambda: 0.0)
    metrics.watch_samples("face", {"fit": 30.0, "held_out": 10.0}.__getitem__, lambda: 4096.0)
    samples = exposed(metrics)
    assert samples["edgeq_samples"] == {("face", "fit"): 30.0, ("face", "held_out"): 10.0}
    assert samples["edgeq_samples_bytes"] == {("face",): 4096.0}


# ---- versions come and go


def test_only_the_live_version_is_in_the_info(metrics):
    metrics.set_live("face", "1", "float", "float")
    metrics.set_live("hand", "1", "float", "float")
    metrics.set_live("face", "2", "cpu-int8", "entropy")
    assert set(exposed(metrics)["edgeq_model_info"]) == {
        ("face", "2", "cpu-int8", "entropy"),
        ("hand", "1", "float", "float"),
    }


def test_a_forgotten_version_leaves_no_series(metrics):
    for model, version in (("face", "1"), ("face", "2"), ("hand", "1")):
        metrics.request_duration.labels(model, version, "http").observe(0.1)
        metrics.requests.labels(model, version, "http", "200").inc()
        metrics.infer_duration.labels(model, version, "float").observe(0.1)
    metrics.forget_version("face", "1")
    metrics.forget_version("face", "9")  # never served
    samples = exposed(metrics)
    for name in ("edgeq_requests_total", "edgeq_request_duration_seconds_count",
                 "edgeq_infer_duration_seconds_count"):  # fmt: skip
        assert {labels[:2] for labels in samples[name]} == {("face", "2"), ("hand", "1")}


# ---- latency of a version


def test_latency_without_a_request_is_zero(metrics):
    assert metrics.latency("face", "1", "float") == {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0}


def test_latency_interpolates_within_the_bucket_as_promql_does(metrics):
    observe = metrics.infer_duration.labels("face", "1", "float").observe
    for _ in range(100):
        observe(0.002)  # in (0.001, 0.0025]
    latency = metrics.latency("face", "1", "float")
    assert latency["count"] == 100
    assert latency["p50_ms"] == pytest.approx(1.0 + 1.5 * 0.50)
    assert latency["p99_ms"] == pytest.approx(1.0 + 1.5 * 0.99)


def test_latency_is_that_of_one_version_and_engine(metrics):
    metrics.infer_duration.labels("face", "1", "float").observe(2.0)
    metrics.infer_duration.labels("face", "2", "cpu-int8").observe(0.0002)
    latency = metrics.latency("face", "2", "cpu-int8")
    assert latency["count"] == 1
    assert latency["p99_ms"] <= 0.25


def test_latency_beyond_the_last_bucket_is_that_bucket_s_end(metrics):
    metrics.infer_duration.labels("face", "1", "float").observe(60.0)
    assert metrics.latency("face", "1", "float")["p50_ms"] == LATENCY_BUCKETS[-1] * 1e3


def test_latency_in_the_first_bucket_starts_at_zero(metrics):
    metrics.infer_duration.labels("face", "1", "float").observe(0.00001)
    assert metrics.latency("face", "1", "float")["p50_ms"] == pytest.approx(0.05)
