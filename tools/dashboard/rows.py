"""What an on-call person asks, row by row -> panels."""

from __future__ import annotations

from tools.dashboard.panels import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    RED,
    Column,
    Panel,
    Query,
    bar_gauge,
    by_pattern,
    graph,
    mapped,
    stat,
    steps,
    table,
)

BOX = 'instance=~"$instance"'
MODEL = f'{BOX}, model=~"$model"'
RATE = "[$__rate_interval]"
FAULTS = 'code=~"5..|INTERNAL|UNKNOWN|UNAVAILABLE|DEADLINE_EXCEEDED|DATA_LOSS"'
OUTCOMES = {"succeeded|committed|accepted": GREEN, "rejected|quarantined": AMBER,
            "failed|rolled_back": RED, "unchanged": GREY}  # fmt: skip
STATES = mapped({"serving": ("serving", GREEN), "building": ("building", BLUE),
                 "probation": ("probation", AMBER), "waiting": ("waiting", GREY),
                 "failed": ("failed", RED)})  # fmt: skip
STATISTICS = ("psi", "js_distance", "wasserstein_ratio", "ks_ratio")
DRIFT = mapped({"0": ("no", GREEN), "1": ("drift", RED)})


def quantile(share: float, metric: str, labels: str, selector: str = MODEL) -> str:
    """Return the quantile of a histogram, for each set of labels."""
    buckets = f"rate({metric}_bucket{{{selector}}}{RATE})"
    return f"histogram_quantile({share}, sum by ({labels}, le) ({buckets}))"


def per_model(expression: str) -> str:
    """Return a sum for each model of each box."""
    return f"sum by (job, instance, model) ({expression})"


def failed_ratio(labels: str) -> str:
    """Return the share of requests that failed by the server's fault; 0 where none has."""
    total = f"sum by ({labels}) (rate(edgeq_requests_total{{{MODEL}}}{RATE}))"
    failed = f"sum by ({labels}) (rate(edgeq_requests_total{{{MODEL}, {FAULTS}}}{RATE}))"
    return f"({failed} or 0 * {total}) / ({total} > 0)"


def to_threshold() -> str:
    """Return how far each tensor is, in the threshold of the statistic that it is judged by."""
    ratio = (
        "edgeq_drift_{0}{{{1}}}"
        ' / ignoring (statistic) (edgeq_drift_threshold{{{1}, statistic="{0}"}} > 0)'
    )
    return " or ".join(ratio.format(statistic, MODEL) for statistic in STATISTICS)


def clipped() -> str:
    """Return the share of values at the ends of the range, above that at calibration."""
    by = "sum by (job, instance, model, tensor)"
    live, then = (
        f"edgeq_saturation_ratio{{{MODEL}}}",
        f"edgeq_saturation_reference_ratio{{{MODEL}}}",
    )
    return f"clamp_min({by} ({live}) - {by} ({then}), 0)"


def overview() -> list[Panel]:
    """Is anything wrong, and where?"""
    info = (
        Query(f"edgeq_model_state{{{MODEL}}} == 1", is_instant=True),
        Query(f"edgeq_model_info{{{MODEL}}}", is_instant=True),
        Query(per_model(f"rate(edgeq_requests_total{{{MODEL}}}{RATE})"), is_instant=True),
        Query(failed_ratio("job, instance, model"), is_instant=True),
        Query(quantile(0.5, "edgeq_request_duration_seconds", "job, instance, model"),
              is_instant=True),
        Query(quantile(0.99, "edgeq_request_duration_seconds", "job, instance, model"),
              is_instant=True),
        Query(f"max by (job, instance, model) (edgeq_drift_active{{{MODEL}}})", is_instant=True),
    )  # fmt: skip
    columns = (
        Column("instance", "box"), Column("model", "model"),
        Column("state", "state", mappings=(STATES,)),
        Column("version", "version", width=90), Column("engine", "engine"),
        Column("method", "method"),
        Column("Value #C", "requests/s", "reqps", decimals=1),
        Column("Value #D", "failed", "percentunit", decimals=2,
               thresholds=steps((None, GREEN), (0.001, AMBER), (0.01, RED))),
        Column("Value #E", "p50", "s", decimals=2), Column("Value #F", "p99", "s", decimals=2),
        Column("Value #G", "drift", mappings=(DRIFT,)),
    )  # fmt: skip
    bad_if_any = steps((None, GREEN), (1, RED))
    return [
        stat("Boxes that answer", "Scrape targets of the chosen boxes that are up.",
             Query(f'sum(up{{{BOX}, job="edgeq"}})'), thresholds=steps((None, RED), (1, GREEN))),
        stat("Models that serve", "With a live engine, whichever.",
             Query(f"count(edgeq_model_info{{{MODEL}}})"),
             thresholds=steps((None, RED), (1, GREEN))),
        stat("Requests", "Answered per second, all models.",
             Query(f"sum(rate(edgeq_requests_total{{{MODEL}}}{RATE}))"), unit="reqps",
             thresholds=steps((None, BLUE)), decimals=1),
        stat("Failed", "Share that failed by the server's fault: 5xx, UNAVAILABLE and the like.",
             Query(f"avg({failed_ratio('job')})"), unit="percentunit", decimals=2,
             thresholds=steps((None, GREEN), (0.001, AMBER), (0.01, RED))),
        stat("Worst p99", "The slowest model's 99th percentile, request to answer.",
             Query(f"max({quantile(0.99, 'edgeq_request_duration_seconds', 'instance, model')})"),
             unit="s", thresholds=steps((None, GREEN), (0.1, AMBER), (0.5, RED)), decimals=2),
        stat("Models that drift", "What they see is not what they were calibrated on.",
             Query(f"sum(edgeq_drift_active{{{MODEL}}})"), thresholds=bad_if_any),
        table("Models", "One row for each model of each box, as it is now.", info, columns,
              height=6, sort="box"),
    ]  # fmt: skip


def latency() -> list[Panel]:
    """Did a swap make it slower, or is it the queue?"""
    version = "instance, model, version, engine"
    swapped = "Vertical lines are swaps; a red one is a rollback."
    infer = "edgeq_infer_duration_seconds"
    return [
        graph("Inference time by version", f"Inside the engine, p50 and p99. {swapped}",
              Query(quantile(0.99, infer, version), "{{model}} v{{version}} {{engine}} p99"),
              Query(quantile(0.5, infer, version), "{{model}} v{{version}} {{engine}} p50"),
              unit="s", width=12,
              overrides=(by_pattern("p50$", **{"custom.lineStyle": {"fill": "dash"},
                                               "custom.fillOpacity": 0}),)),
        graph("Request time", f"From the request's first byte to the answer's last. {swapped}",
              Query(quantile(0.99, "edgeq_request_duration_seconds", "instance, model, protocol"),
                    "{{model}} {{protocol}} p99"),
              Query(quantile(0.5, "edgeq_request_duration_seconds", "instance, model, protocol"),
                    "{{model}} {{protocol}} p50"),
              unit="s", width=12,
              overrides=(by_pattern("p50$", **{"custom.lineStyle": {"fill": "dash"},
                                               "custom.fillOpacity": 0}),)),
        graph("Requests by answer", "Per second, by HTTP or gRPC status.",
              Query(f"sum by (model, code) (rate(edgeq_requests_total{{{MODEL}}}{RATE}))",
                    "{{model}} {{code}}"), unit="reqps", stacked=True,
              colours={" (200|OK)$": GREEN, " (5..|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED)$": RED}),
        graph("Waiting for an engine", "p99 of the time in the queue.",
              Query(quantile(0.99, "edgeq_queue_duration_seconds", "instance, model"),
                    "{{instance}} {{model}}"), unit="s"),
        graph("Queue", "Requests waiting now; at swap.queue_size further ones get 503.",
              Query(f"edgeq_queue_length{{{MODEL}}}", "{{instance}} {{model}}")),
    ]  # fmt: skip


def drift() -> list[Panel]:
    """What changed, in which tensor, and is it chance?"""
    queries = (
        Query(to_threshold(), is_instant=True),
        *(Query(f"edgeq_drift_{name}{{{MODEL}}}", is_instant=True) for name in STATISTICS),
        Query(clipped(), is_instant=True),
        Query(f"edgeq_scale_drift_ratio{{{MODEL}}}", is_instant=True),
        Query(f"edgeq_drift_stream_samples{{{MODEL}}}", is_instant=True),
    )
    columns = (
        Column("instance", "box"), Column("model", "model"), Column("tensor", "tensor"),
        Column("Value #A", "of its threshold", "percentunit", decimals=0,
               thresholds=steps((None, GREEN), (0.7, AMBER), (1, RED))),
        Column("Value #B", "PSI", decimals=3), Column("Value #C", "JS distance", decimals=3),
        Column("Value #D", "Wasserstein", decimals=3), Column("Value #E", "KS", decimals=3),
        Column("Value #F", "clipped", "percentunit", decimals=2,
               thresholds=steps((None, GREEN), (0.01, AMBER), (0.05, RED))),
        Column("Value #G", "scale", decimals=2), Column("Value #H", "frames", decimals=0),
    )  # fmt: skip
    return [
        graph("Drift against threshold",
              "Each tensor's statistic in its own threshold, which knows the size of the window: "
              "above 100 % it counts as drift. Shaded: drift active.",
              Query(to_threshold(), "{{model}} {{tensor}}"), unit="percentunit", width=16, limit=1,
              is_ranked=True, lowest=0.01),
        graph("Faulty frames", "Per second: constant, stuck, too dark or bright, not a number.",
              Query(f"sum by (model, tensor, fault) (rate(edgeq_input_health_total{{{MODEL}}}"
                    f"{RATE})) > 0", "{{model}} {{tensor}} {{fault}}")),
        table("Tensors now", "Live against calibration; worst first. Clipped: at the ends of the "
              "INT8 range, above calibration. Scale: what calibration would choose now, over what "
              "is in use.", queries, columns, sort="of its threshold", descending=True, height=10),
        graph("Frames in the window", "Effective; few frames raise the thresholds.",
              Query(f"edgeq_drift_window_samples{{{MODEL}}}", "{{instance}} {{model}}"), width=12),
        graph("Identical frames", "In a row, up to now: a stuck camera has ever more.",
              Query(f"edgeq_input_identical_frames{{{MODEL}}}", "{{model}} {{tensor}}"),
              width=12),
    ]  # fmt: skip


def saturation() -> list[Panel]:
    """Do the INT8 ranges still fit?"""
    return [
        graph("Clipped beyond calibration",
              "Values at the ends of the INT8 range, above the share that calibration had there.",
              Query(clipped(), "{{model}} {{tensor}}"), unit="percentunit", width=12, limit=0.05,
              is_ranked=True),
        graph("Scale drift",
              "What calibration would choose today over what is in use: 1 is no change.",
              Query(f"edgeq_scale_drift_ratio{{{MODEL}}}", "{{model}} {{tensor}}"), width=12,
              is_ranked=True),
    ]  # fmt: skip


def builds() -> list[Panel]:
    """Are there samples, do builds come through, do swaps stay?"""
    outcome = "round(sum by ({labels}) (increase({metric}{{{selector}}}[$__rate_interval])))"
    stage = "edgeq_build_duration_seconds"

    def ended(metric: str, labels: str, selector: str = MODEL) -> str:
        return outcome.format(labels=labels, metric=metric, selector=selector)

    return [
        graph("Samples", "In the store, by what they are for.",
              Query(f"edgeq_samples{{{MODEL}}}", "{{model}} {{set}}"), stacked=True),
        bar_gauge("Sample quota in use", "Of samples.max_bytes.",
                  Query(f"edgeq_samples_bytes{{{MODEL}}} / edgeq_samples_max_bytes{{{MODEL}}}",
                        "{{instance}} {{model}}"), unit="percentunit", top=1,
                  thresholds=steps((None, GREEN), (0.8, AMBER), (0.95, RED))),
        bar_gauge("Seconds by stage of a build", "Mean of each stage since the daemon's start.",
                  Query(f"sum by (stage) ({stage}_sum{{{MODEL}}})"
                        f" / sum by (stage) ({stage}_count{{{MODEL}}})", "{{stage}}"),
                  unit="s", thresholds=steps((None, BLUE))),
        graph("Builds", "Ended, by outcome; recalibrations are among them.",
              Query(ended("edgeq_builds_total", "model, outcome"), "{{model}} {{outcome}}"),
              bars=True, stacked=True, colours=OUTCOMES, width=6),
        graph("Recalibrations", "Asked for by drift or a person, by outcome.",
              Query(ended("edgeq_recalibrations_total", "model, outcome"), "{{model}} {{outcome}}"),
              bars=True, stacked=True, colours=OUTCOMES, width=6),
        graph("Swaps", "Versions that were to be published, by outcome.",
              Query(ended("edgeq_swaps_total", "model, outcome"), "{{model}} {{outcome}}"),
              bars=True, stacked=True, colours=OUTCOMES, width=6),
        graph("Drops", "Files that settled in the drop folder.",
              Query(ended("edgeq_drops_total", "instance, outcome", BOX),
                    "{{instance}} {{outcome}}"),
              bars=True, stacked=True, colours=OUTCOMES, width=6),
        graph("Agreement with float", "Share of held-out samples with the float model's top-1.",
              Query(f"edgeq_verify_agreement_ratio{{{MODEL}}}", "{{instance}} {{model}}"),
              unit="percentunit", width=6, top=1),
        graph("Signal to quantization noise", "On held-out samples, the worst output.",
              Query(f"edgeq_verify_sqnr_decibels{{{MODEL}}}", "{{instance}} {{model}}"),
              unit="dB", width=6),
        graph("Disagreement in probation", "Of the new version with the one before it.",
              Query(f"edgeq_shadow_disagreement_ratio{{{MODEL}}}", "{{instance}} {{model}}"),
              unit="percentunit", width=6),
        graph("Time of a swap", "Load, warm-up, golden check, switch and drain; p99.",
              Query(quantile(0.99, "edgeq_swap_duration_seconds", "instance, model"),
                    "{{instance}} {{model}}"), unit="s", width=6),
    ]  # fmt: skip


def board() -> list[Panel]:
    """Is the box itself well?"""
    memory = f"edgeq_device_memory_bytes{{{BOX}, kind="
    return [
        graph("Temperature", "Thermal zones and sensors.",
              Query(f"edgeq_device_temperature_celsius{{{BOX}}}", "{{instance}} {{zone}}"),
              unit="celsius", limit=90),
        graph("GPU load", "Share of time that it was busy.",
              Query(f"edgeq_device_gpu_utilization_ratio{{{BOX}}}", "{{instance}} {{gpu}}"),
              unit="percentunit", top=1),
        graph("Power", "Drawn from each rail that the board measures.",
              Query(f"edgeq_device_power_watts{{{BOX}}}", "{{instance}} {{rail}}"),
              unit="watt", stacked=True),
        graph("Memory", "In use: total less available; and the GPU's share where it is counted.",
              Query(f'{memory}"total"}} - ignoring (kind) {memory}"available"}}',
                    "{{instance}} in use"),
              Query(f'{memory}"gpu_used"}}', "{{instance}} GPU"),
              Query(f'{memory}"total"}}', "{{instance}} total"), unit="bytes", width=6,
              overrides=(by_pattern("total$", **{"custom.lineStyle": {"fill": "dash"},
                                                 "custom.fillOpacity": 0}),)),
        graph("Disk", "Free, where the state folder lies.",
              Query(f"edgeq_state_filesystem_available_bytes{{{BOX}}}"
                    f" / edgeq_state_filesystem_size_bytes{{{BOX}}}", "{{instance}}"),
              unit="percentunit", width=6, top=1),
        graph("The daemon's processor", "Of one core.",
              Query(f"rate(process_cpu_seconds_total{{{BOX}}}{RATE})"
                    f" and on (job, instance) edgeq_build_info", "{{instance}}"),
              unit="percentunit", width=6),
        graph("The daemon's memory", "Resident.",
              Query(f"process_resident_memory_bytes{{{BOX}}}"
                    f" and on (job, instance) edgeq_build_info", "{{instance}}"),
              unit="bytes", width=6),
        graph("Faults", "What the box refused or what hung, by kind: the log says what to do.",
              Query(f"round(sum by (instance, kind) (increase(edgeq_faults_total{{{BOX}}}"
                    f"{RATE}))) > 0", "{{instance}} {{kind}}"),
              bars=True, stacked=True, width=12),
        graph("Safe mode and hung threads", "1 while edgeq only serves; threads that engines keep.",
              Query(f"edgeq_safe_mode{{{BOX}}}", "{{instance}} safe mode"),
              Query(f"edgeq_hung_threads{{{BOX}}}", "{{instance}} hung threads"), width=12),
    ]  # fmt: skip
