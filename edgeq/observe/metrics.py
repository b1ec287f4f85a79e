"""Every metric declared once: name, unit, labels, buckets. The only importer of prometheus_client.

Names follow Prometheus' practice (base units, `_total` on counters, `_ratio` for shares); label
values known beforehand start at 0, so that a rate() over them exists before the first event.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from edgeq.observe.board import QUANTITIES, Quantity, Reading
from edgeq.observe.durations import DurationFamily, Durations

# An edge model answers in 0.1 to 50 ms; Prometheus' own defaults would put that in two buckets.
LATENCY_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
BUILD_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
SWAP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)

MODEL_STATES = ("waiting", "serving", "building", "probation", "failed")
SWAP_OUTCOMES = ("committed", "rejected", "rolled_back")
BUILD_OUTCOMES = ("succeeded", "rejected", "failed")
DROP_OUTCOMES = ("accepted", "quarantined", "unchanged")
SAMPLE_SETS = ("fit", "held_out")
FaultKind = Literal[
    "disk_full", "out_of_inodes", "read_only", "io_error", "clock_jump", "fork_failed",
    "out_of_memory", "out_of_descriptors", "engine_hung", "child_hung", "thread_hung", "crash_loop",
]  # fmt: skip
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

ReadBoard = Callable[[], tuple[list[Reading], dict[str, bool]]]
_SOURCE_UP = Quantity(
    "1 where this source of figures answered in time, 0 where it hangs.", "source"
)


class Metrics:
    """The instruments of one daemon, on a registry of their own."""

    def __init__(self, version: str, runtime: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double every counter's series
        self.registry = CollectorRegistry()
        self._app = prometheus_client.make_wsgi_app(self.registry)
        ProcessCollector(registry=self.registry)
        self._request_series: dict[tuple[str, str, str, str], tuple[Durations, Counter]] = {}
        self._infer_series: dict[tuple[str, str, str], tuple[Durations, Durations]] = {}
        self._declare_requests()
        self._declare_lifecycle()
        self._declare_data()
        info = self._gauge("build_info", "The edgeq release and its runtime; always 1.",
                           "version", "runtime")  # fmt: skip
        info.labels(version, runtime).set(1)
        for outcome in DROP_OUTCOMES:
            self.drops.labels(outcome)
        for kind in FAULT_KINDS:
            self.faults.labels(kind)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"edgeq_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"edgeq_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            f"edgeq_{name}", text, labels, registry=self.registry, buckets=tuple(buckets)
        )

    def _latencies(self, name: str, text: str, *labels: str) -> DurationFamily:
        family = DurationFamily(labels, LATENCY_BUCKETS)
        self.registry.register(_LatencyCollector(f"edgeq_{name}", text, family))
        return family

    def _declare_requests(self) -> None:
        self.request_duration = self._latencies(
            "request_duration_seconds", "From the request's first byte to the answer's last.",
            "model", "version", "protocol")  # fmt: skip
        self.requests = self._counter(
            "requests", "Inference requests answered, by status code.",
            "model", "version", "protocol", "code")  # fmt: skip
        self.infer_duration = self._latencies(
            "infer_duration_seconds", "Time inside the engine.",
            "model", "version", "engine")  # fmt: skip
        self.queue_duration = self._latencies(
            "queue_duration_seconds", "Time a request waited for an engine.", "model")  # fmt: skip
        self.queue_length = self._gauge(
            "queue_length", "Requests waiting for an engine now.", "model")  # fmt: skip

    def _declare_lifecycle(self) -> None:
        self.model_info = self._gauge(
            "model_info", "The version that serves; always 1.",
            "model", "version", "engine", "method")  # fmt: skip
        self.model_state = self._gauge(
            "model_state", "1 for the state the model is in, 0 for the others.", "model", "state"
        )
        self.swaps = self._counter(
            "swaps", "Versions that were to be published, by outcome.", "model", "outcome"
        )
        self.swap_duration = self._histogram(
            "swap_duration_seconds", "Load, warm-up, golden check, switch and drain of a swap.",
            SWAP_BUCKETS, "model")  # fmt: skip
        self.shadow_disagreement = self._gauge(
            "shadow_disagreement_ratio",
            "How far the new version's answers were from the previous one's, worst output.",
            "model",
        )
        self.build_duration = self._histogram(
            "build_duration_seconds", "Time of each stage of a build.",
            BUILD_BUCKETS, "model", "stage")  # fmt: skip
        self.builds = self._counter("builds", "Builds ended, by outcome.", "model", "outcome")
        self.recalibrations = self._counter(
            "recalibrations", "Builds asked for by drift or a person, by outcome.",
            "model", "outcome")  # fmt: skip
        self.verify_agreement = self._gauge(
            "verify_agreement_ratio",
            "Share of held-out samples with float's top-1, of the last verdict.",
            "model",
        )
        self.verify_sqnr = self._gauge(
            "verify_sqnr_decibels",
            "Signal to quantization noise on held-out samples, worst output.",
            "model",
        )

    def _declare_data(self) -> None:
        self.drops = self._counter("drops", "Drops that settled, by outcome.", "outcome")
        self.safe_mode = self._gauge(
            "safe_mode", "1 while edgeq only serves, for it died again and again."
        )
        self.hung_threads = self._gauge(
            "hung_threads", "Threads left to an engine that does not come back."
        )
        self.faults = self._counter("faults", "Faults of the box or a process, by kind.", "kind")
        self.samples = self._gauge("samples", "Samples in the store, by set.", "model", "set")
        self.samples_bytes = self._gauge("samples_bytes", "Size of the sample store.", "model")
        self.samples_max_bytes = self._gauge(
            "samples_max_bytes", "What the sample store may take of the disk.", "model"
        )
        self.drift_psi = self._gauge(
            "drift_psi", "Population stability index of a stream against calibration.",
            "model", "tensor")  # fmt: skip
        self.drift_js = self._gauge(
            "drift_js_distance", "Jensen-Shannon distance of a stream against calibration.",
            "model", "tensor")  # fmt: skip
        self.drift_wasserstein = self._gauge(
            "drift_wasserstein_ratio", "Wasserstein distance over the calibration's deviation.",
            "model", "tensor")  # fmt: skip
        self.drift_ks = self._gauge(
            "drift_ks_ratio", "Kolmogorov-Smirnov statistic of a stream against calibration.",
            "model", "tensor")  # fmt: skip
        self.drift_threshold = self._gauge(
            "drift_threshold", "Value above which the statistic counts as drift.",
            "model", "tensor", "statistic")  # fmt: skip
        self.drift_window = self._gauge(
            "drift_window_samples", "Effective number of frames in the live window.", "model"
        )
        self.drift_frames = self._gauge(
            "drift_stream_samples", "Effective number of frames in a stream's own window.",
            "model", "tensor")  # fmt: skip
        self.drift_active = self._gauge("drift_active", "1 while live frames drift.", "model")
        self.saturation = self._gauge(
            "saturation_ratio", "Share of live values at an end of the INT8 range, or beyond it.",
            "model", "tensor", "rail")  # fmt: skip
        self.saturation_reference = self._gauge(
            "saturation_reference_ratio", "The same share over the calibration samples.",
            "model", "tensor", "rail")  # fmt: skip
        self.scale_drift = self._gauge(
            "scale_drift_ratio", "Range that calibration would choose now over the one in use.",
            "model", "tensor")  # fmt: skip
        self.input_health = self._counter(
            "input_health", "Live frames with a fault of their own, by fault.",
            "model", "tensor", "fault")  # fmt: skip
        self.identical_frames = self._gauge(
            "input_identical_frames", "Frames in a row, up to now, that were as the one before.",
            "model", "tensor")  # fmt: skip

    # Finding a series by its labels costs as much as observing a value, 2 us; a request has four.

    def count_request(
        self, model: str, version: str, protocol: str, code: str, seconds: float
    ) -> None:
        """Count an answered request, with the time it took."""
        key = (model, version, protocol, code)
        found = self._request_series.get(key)
        if found is None:
            found = (self.request_duration.labels(*key[:3]), self.requests.labels(*key))
            self._request_series[key] = found
        found[0].observe(seconds)
        found[1].inc()

    def count_inference(
        self, model: str, version: str, engine: str, infer_s: float, queue_s: float
    ) -> None:
        """Count a run of an engine, with the time it took and the time the request waited."""
        key = (model, version, engine)
        found = self._infer_series.get(key)
        if found is None:
            found = (self.infer_duration.labels(*key), self.queue_duration.labels(model))
            self._infer_series[key] = found
        found[0].observe(infer_s)
        found[1].observe(queue_s)

    def watch_model(self, model: str, queue_length: Callable[[], float]) -> None:
        """Create the series of a model, so that each exists before its first event."""
        for outcome in SWAP_OUTCOMES:
            self.swaps.labels(model, outcome)
        for outcome in BUILD_OUTCOMES:
            self.builds.labels(model, outcome)
            self.recalibrations.labels(model, outcome)
        self.drift_active.labels(model).set(0)
        self.queue_length.labels(model).set_function(queue_length)
        self.set_state(model, "waiting")

    def watch_samples(
        self, model: str, count: Callable[[str], float], size: Callable[[], float]
    ) -> None:
        """Read the sample store's figures at each scrape; `count` takes the set's name."""
        for name in SAMPLE_SETS:
            self.samples.labels(model, name).set_function(functools.partial(count, name))
        self.samples_bytes.labels(model).set_function(size)

    def watch_board(self, read: ReadBoard) -> None:
        """Ask the board at each scrape; `read` returns readings, and which sources answered."""
        self.registry.register(_BoardCollector(read))

    def set_state(self, model: str, state: str) -> None:
        """Make `state` the one that is 1."""
        for name in MODEL_STATES:
            self.model_state.labels(model, name).set(name == state)

    def set_live(self, model: str, version: str, engine: str, method: str) -> None:
        """Make this the version that `edgeq_model_info` names."""
        self.model_info.remove_by_labels({"model": model})
        self.model_info.labels(model, version, engine, method).set(1)

    def forget_version(self, model: str, version: str) -> None:
        """Drop the series of a version that will not serve again: labels stay bounded."""
        labels = {"model": model, "version": version}
        for metric in (self.request_duration, self.requests, self.infer_duration):
            metric.remove_by_labels(labels)
        self._request_series.clear()
        self._infer_series.clear()

    def forget_drift(self, model: str) -> None:
        """Drop what was said of a model's inputs: it has others now, or no calibration."""
        for metric in (
            self.drift_psi,
            self.drift_js,
            self.drift_wasserstein,
            self.drift_ks,
            self.drift_threshold,
            self.drift_window,
            self.drift_frames,
            self.saturation,
            self.saturation_reference,
            self.identical_frames,
            self.scale_drift,
        ):
            metric.remove_by_labels({"model": model})
        self.drift_active.labels(model).set(0)

    def latency(self, model: str, version: str, engine: str) -> dict[str, float | int]:
        """Return count, p50 and p99 (ms) of a version's inference time, from its buckets."""
        wanted = (model, version, engine)
        rows = (row.counts for row in self.infer_duration.rows() if row.labels == wanted)
        counts = next(rows, [])
        bounds = [*self.infer_duration.bounds, float("inf")]
        total = counts[-1] if counts else 0
        return {
            "count": total,
            "p50_ms": _quantile_ms(0.50, bounds, counts),
            "p99_ms": _quantile_ms(0.99, bounds, counts),
        }

    def scrape(
        self, path: str, query: str, accept: str, accept_encoding: str
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body for a scraper, in the format and encoding that it asks for."""
        headers: dict[str, str] = {}
        asked = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query,
                 "HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": accept_encoding}  # fmt: skip
        body = self._app(asked, lambda _, given: headers.update(given))
        return headers, b"".join(body)

    def page(self) -> bytes:
        """Return the text exposition, as a scrape would see it."""
        return prometheus_client.generate_latest(self.registry)


class _LatencyCollector(Collector):
    """What a `DurationFamily` counted, as prometheus_client reads it at a scrape."""

    def __init__(self, name: str, text: str, family: DurationFamily) -> None:
        self._name = name
        self._text = text
        self._family = family
        self._bounds = [*map(floatToGoString, family.bounds), "+Inf"]

    def describe(self) -> Iterator[Metric]:
        yield self._empty()

    def collect(self) -> Iterator[Metric]:
        metric = self._empty()
        for labels, counts, total in self._family.rows():
            metric.add_metric(labels, list(zip(self._bounds, counts, strict=True)), total)
        yield metric

    def _empty(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._family.label_names)


class _BoardCollector(Collector):
    """What the board says at a scrape; what it does not say has no series."""

    def __init__(self, read: ReadBoard) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        for name, quantity in QUANTITIES.items():
            yield _board_family(name, quantity)

    def collect(self) -> Iterator[Metric]:
        readings, answered = self._read()
        for name, quantity in QUANTITIES.items():
            family = _board_family(name, quantity)
            for each in readings:
                if each.quantity == name:
                    family.add_metric([each.place] if quantity.label else [], each.value)
            if family.samples:
                yield family
        family = _board_family("device_source_up", _SOURCE_UP)
        for source, is_up in answered.items():
            family.add_metric([source], float(is_up))
        yield family


def _board_family(name: str, quantity: Quantity) -> GaugeMetricFamily:
    labels = [quantity.label] if quantity.label else []
    return GaugeMetricFamily(f"edgeq_{name}", quantity.text, labels=labels)


def _quantile_ms(quantile: float, bounds: list[float], counts: list[int]) -> float:
    """Interpolate within the bucket, as PromQL's histogram_quantile does; 0 without samples."""
    if not counts or not counts[-1]:
        return 0.0
    rank = quantile * counts[-1]
    place = next(i for i, count in enumerate(counts) if count >= rank)
    low = bounds[place - 1] if place else 0.0
    if bounds[place] == float("inf"):
        return low * 1e3
    before = counts[place - 1] if place else 0.0
    share = (rank - before) / max(counts[place] - before, 1.0)
    return round((low + (bounds[place] - low) * share) * 1e3, 4)
