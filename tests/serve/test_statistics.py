from __future__ import annotations

from edgeq.serve.statistics import Statistics, Timing


def test_counts_and_nanoseconds_add_up_per_version() -> None:
    statistics = Statistics()
    statistics.succeeded("m", "1", Timing(1, 7, 20, 300, 328))
    statistics.succeeded("m", "1", Timing(1, 7, 20, 300, 328))
    statistics.failed("m", "1", 50)
    statistics.succeeded("m", "2", Timing(5, 5, 5, 5, 20))
    row = statistics.row("m", "1")
    stats = row["inference_stats"]
    assert (row["inference_count"], row["execution_count"]) == (2, 2)
    assert stats["success"] == {"count": 2, "ns": 656}
    assert stats["fail"] == {"count": 1, "ns": 50}
    assert stats["compute_input"] == {"count": 2, "ns": 2}
    assert stats["compute_infer"] == {"count": 2, "ns": 40}
    assert stats["compute_output"] == {"count": 2, "ns": 600}
    assert stats["queue"] == {"count": 2, "ns": 14}
    assert row["last_inference"] > 1_600_000_000_000


def test_a_version_without_requests_has_a_row_of_zeros() -> None:
    row = Statistics().row("m", "9")
    assert (row["name"], row["version"], row["last_inference"]) == ("m", "9", 0)
    assert row["inference_stats"]["success"] == {"count": 0, "ns": 0}
