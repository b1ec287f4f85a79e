from __future__ import annotations

from edgeq.daemon.deployment import Latencies
from edgeq.daemon.series import INTERVAL_S, KEPT_S, SWAPS_KEPT, Point, Series
from edgeq.swap import InferRecord, LiveInfo
from edgeq.swap.probation import RECORDED

START = 1_700_000_000.0


def live(version: str, engine: str = "cpu-int8", since: float = START) -> LiveInfo:
    return LiveInfo(version, engine, (), (), since)


def answer(latencies: Latencies, version: str, seconds: list[float]) -> None:
    for each in seconds:
        latencies.add(InferRecord("m", version, "cpu-int8", 0.0, each, error=False))


def test_an_interval_becomes_a_point_with_its_own_requests_only():
    series, latencies = Series(), Latencies()
    series.tick(START, live("1"), latencies.records)
    answer(latencies, "1", [0.001] * 98 + [0.005] * 2)
    series.tick(START + INTERVAL_S, live("1"), latencies.records)
    assert series.points == (Point(1_700_000_010, "1", "cpu-int8", 100, 1.0, 5.0),)
    answer(latencies, "1", [0.002] * 3)
    series.tick(START + 2 * INTERVAL_S, live("1"), latencies.records)
    assert series.points[1] == Point(1_700_000_020, "1", "cpu-int8", 3, 2.0, 2.0)


def test_an_interval_without_requests_has_no_point():
    series, latencies = Series(), Latencies()
    answer(latencies, "1", [0.001])
    for step in range(4):
        series.tick(START + step * INTERVAL_S, live("1"), latencies.records)
    assert [point.requests for point in series.points] == [1]


def test_of_more_requests_than_are_kept_all_are_counted():
    series, latencies = Series(), Latencies()
    series.tick(START, live("1"), latencies.records)
    answer(latencies, "1", [0.001] * (RECORDED + 100))
    series.tick(START + INTERVAL_S, live("1"), latencies.records)
    assert series.points[0].requests == RECORDED + 100


def test_two_versions_that_answered_in_one_interval_have_a_point_each():
    series, latencies = Series(), Latencies()
    series.tick(START, live("1"), latencies.records)
    answer(latencies, "1", [0.004])
    series.tick(START + 5, live("2", since=START + 4.5), latencies.records)
    answer(latencies, "2", [0.001])
    series.tick(START + INTERVAL_S, live("2", since=START + 4.5), latencies.records)
    assert [(point.version, point.p50_ms) for point in series.points] == [("1", 4.0), ("2", 1.0)]
    assert [(mark.time, mark.version) for mark in series.swaps] == [(START + 4.5, "2")]


def test_what_serves_first_and_what_is_loaded_anew_are_no_swaps():
    series = Series()
    for now, info in enumerate([None, live("1"), None, live("1", since=START + 3)]):
        series.tick(START + now, info, {})
    assert series.swaps == ()


def test_a_fault_that_changes_the_engine_is_marked_when_it_is_seen():
    series = Series()
    series.tick(START, live("1", "cuda-int8"), {})
    series.tick(START + 7, live("1", "cpu-int8"), {})
    assert [(mark.time, mark.engine) for mark in series.swaps] == [(START + 7, "cpu-int8")]


def test_only_the_last_hour_and_so_many_swaps_are_kept():
    series, latencies = Series(), Latencies()
    for step in range(KEPT_S // INTERVAL_S + 50):
        now = START + step * INTERVAL_S
        answer(latencies, str(step % 2), [0.001])
        series.tick(now, live(str(step % 2), since=now), latencies.records)
    assert len(series.points) == KEPT_S // INTERVAL_S
    assert series.points[0].time > now - KEPT_S
    assert len(series.swaps) == SWAPS_KEPT


def test_a_clock_that_is_set_back_leaves_nothing_in_the_future():
    series, latencies = Series(), Latencies()
    series.tick(START, live("1"), latencies.records)
    answer(latencies, "1", [0.001])
    series.tick(START + INTERVAL_S, live("1"), latencies.records)
    series.tick(START - 86400, live("1"), latencies.records)
    assert series.points == ()
