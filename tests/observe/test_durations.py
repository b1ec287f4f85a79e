import threading

import pytest

from edgeq.observe.durations import DurationFamily, DurationRow, Durations


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    durations = Durations((0.001, 0.01))
    for seconds in (0.0005, 0.001, 0.0011, 5.0):
        durations.observe(seconds)
    counts, total = durations.read()
    assert counts == [2, 3, 4]
    assert total == pytest.approx(5.0026)


def test_a_label_set_has_one_series() -> None:
    family = DurationFamily(("model", "version"), (1.0,))
    family.labels("face", "1").observe(0.5)
    family.labels("face", "1").observe(2.0)
    assert list(family.rows()) == [DurationRow(("face", "1"), [1, 2], 2.5)]


def test_only_series_with_all_the_labels_are_removed() -> None:
    family = DurationFamily(("model", "version"), (1.0,))
    for labels in (("face", "1"), ("face", "2"), ("tone", "1")):
        family.labels(*labels)
    family.remove_by_labels({"model": "face", "version": "1"})
    assert [row.labels for row in family.rows()] == [("face", "2"), ("tone", "1")]
    family.remove_by_labels({"engine": "float"})
    assert len(list(family.rows())) == 2


def test_no_observation_of_many_threads_is_lost() -> None:
    durations = Durations((1.0,))

    def work() -> None:
        for _ in range(2000):
            durations.observe(0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert durations.read() == ([8000, 8000], 4000.0)
