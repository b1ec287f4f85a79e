from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.calibrate.table import CalibrationTable, TensorRange
from edgeq.quantize.choose import AUTO, Choice, choose_ranges
from edgeq.quantize.noise import Noise

TENSORS = ("a", "b", "c", "d")
METHODS = ("entropy", "mse", "max")
WIDTHS = {"entropy": 1.0, "mse": 2.0, "max": 4.0}
SAMPLES = 8

Rows = Mapping[str, TensorRange]


def row(method: str, hi: float) -> TensorRange:
    return TensorRange(0.0, hi, method, 0.0, 0.0, 0.0, 4.0)


def table(method: str, widths: Mapping[str, float]) -> CalibrationTable:
    return CalibrationTable("", method, 1, {n: row(method, hi) for n, hi in widths.items()})


def three_tables() -> dict[str, CalibrationTable]:
    return {m: table(m, dict.fromkeys(TENSORS, WIDTHS[m])) for m in METHODS}


def noise_of(total: float, spread: float = 0.0) -> Noise:
    """Noise of one output; `spread` moves it between the samples."""
    even = np.full(SAMPLES, total / SAMPLES)
    even[::2] += spread
    even[1::2] -= spread
    return Noise(even[np.newaxis])


class Bench:
    """A model whose noise is a sum over tensors of what each costs by its method."""

    def __init__(self, costs: Mapping[str, Mapping[str, float]]) -> None:
        self.costs, self.measured = costs, list[Rows]()

    def __call__(self, given: CalibrationTable) -> Noise:
        self.measured.append(given.tensors)
        return noise_of(sum(self.costs[n][r.method] for n, r in given.tensors.items()))


def costs(**better: str) -> dict[str, dict[str, float]]:
    """Entropy serves each tensor best, but for those named, which another method serves."""
    return {
        n: {m: 0.001 if m == better.get(n, "entropy") else 0.01 for m in METHODS} for n in TENSORS
    }


def methods_of(choice: Choice) -> dict[str, str]:
    return {n: r.method for n, r in choice.table.tensors.items()}


# ---- what it finds


def test_each_tensor_takes_the_method_that_serves_it():
    choice = choose_ranges(three_tables(), Bench(costs(b="max", d="mse")), most_trials=8)
    assert methods_of(choice) == {"a": "entropy", "b": "max", "c": "entropy", "d": "mse"}
    assert choice.table.method == AUTO


def test_where_one_method_serves_all_the_table_is_its_own():
    tables = three_tables()
    choice = choose_ranges(tables, Bench(costs()))
    assert choice.table is tables["entropy"]
    assert not any(trial.kept for trial in choice.trials)


def test_the_scores_are_those_of_the_whole_tables():
    choice = choose_ranges(three_tables(), Bench(costs()))
    expected = {"entropy": 0.004, "mse": 0.04, "max": 0.04}
    assert choice.scores == pytest.approx(
        {m: -10 * np.log10(n) for m, n in expected.items()}, abs=1e-3
    )


def test_of_equal_tables_the_first_is_taken():
    same = {n: dict.fromkeys(METHODS, 0.01) for n in TENSORS}
    assert choose_ranges(three_tables(), Bench(same)).table.method == "entropy"


def test_trials_say_what_they_gained():
    choice = choose_ranges(three_tables(), Bench(costs(b="max")), most_trials=8)
    kept = [trial for trial in choice.trials if trial.kept]
    assert [(t.method, t.tensors) for t in kept] == [("max", ("b",))]
    assert kept[-1].sqnr_db == choice.sqnr_db > choice.scores["entropy"]


# ---- what it costs


@pytest.mark.parametrize("most", [0, 1, 3])
def test_measurements_are_bounded(most):
    bench = Bench(costs(b="max", d="mse"))
    choice = choose_ranges(three_tables(), bench, most_trials=most)
    assert len(choice.trials) == most
    assert len(bench.measured) <= len(METHODS) + most + 1  # and what was found


def test_a_single_table_costs_one_measurement():
    bench = Bench(costs())
    choice = choose_ranges({"max": three_tables()["max"]}, bench)
    assert choice.table.method == "max"
    assert len(bench.measured) == 1


def test_ranges_that_hardly_differ_are_no_trial():
    widths = {"entropy": 4.0, "mse": 3.99, "max": 4.01}
    tables = {m: table(m, dict.fromkeys(TENSORS, widths[m])) for m in METHODS}
    assert choose_ranges(tables, Bench(costs(b="max"))).trials == ()


def test_two_methods_with_one_range_are_one_trial():
    widths = {"entropy": 1.0, "mse": 4.0, "max": 4.0}
    tables = {m: table(m, dict.fromkeys(TENSORS, widths[m])) for m in METHODS}
    choice = choose_ranges(tables, Bench(costs()))
    assert [(t.method, t.tensors) for t in choice.trials] == [("mse", (n,)) for n in TENSORS]


def test_what_differs_most_is_tried_first():
    tables = three_tables()
    tables["max"] = table("max", {"a": 1.5, "b": 9.0, "c": 3.0, "d": 1.1})
    tables["mse"] = tables["entropy"]
    choice = choose_ranges(tables, Bench(costs()))
    assert [t.tensors[0] for t in choice.trials] == ["b", "c", "a", "d"]


def test_a_dead_tensor_is_no_trial():
    tables = {m: table(m, {"a": 0.0}) for m in METHODS}
    assert choose_ranges(tables, Bench({"a": dict.fromkeys(METHODS, 0.1)})).trials == ()


# ---- what it does not believe


def replies(first: Noise, second: Noise) -> Callable[[CalibrationTable], Noise]:
    """The noise of the first table, and of everything with a range of another."""

    def measure(given: CalibrationTable) -> Noise:
        methods = {r.method for r in given.tensors.values()}
        return first if methods == {"entropy"} else noise_of(1.0) if len(methods) == 1 else second

    return measure


def tried(first: Noise, second: Noise, **options: float) -> Choice:
    return choose_ranges(three_tables(), replies(first, second), most_trials=1, **options)


def test_a_small_gain_is_left_alone():
    assert not tried(noise_of(0.1), noise_of(0.0985)).trials[0].kept
    assert tried(noise_of(0.1), noise_of(0.0985), least_gain_db=0.05).trials[0].kept


def test_a_gain_on_a_few_samples_only_is_left_alone():
    assert tried(noise_of(0.1), noise_of(0.09, spread=0.001)).trials[0].kept
    assert not tried(noise_of(0.1), noise_of(0.09, spread=0.004)).trials[0].kept


def test_one_sample_proves_nothing():
    before, after = Noise(np.array([[0.1]])), Noise(np.array([[0.01]]))
    assert not tried(before, after).trials[0].kept


def test_a_form_that_gives_nonfinite_values_is_never_kept():
    broken = Noise(np.full((1, SAMPLES), np.inf))
    assert not tried(noise_of(0.1), broken).trials[0].kept
    assert tried(broken, noise_of(0.1)).sqnr_db == 10.0


def test_the_output_that_is_worst_decides():
    def outputs(first: float, second: float) -> Noise:
        return Noise(np.full((2, SAMPLES), [[first], [second]]) / SAMPLES)

    assert not tried(outputs(0.1, 0.01), outputs(0.1, 0.001)).trials[0].kept
    assert tried(outputs(0.1, 0.01), outputs(0.05, 0.02)).trials[0].kept


# ---- laws

COST = st.floats(1e-4, 1.0)
ANY_COSTS = st.fixed_dictionaries(
    {n: st.fixed_dictionaries(dict.fromkeys(METHODS, COST)) for n in TENSORS}
)


@settings(deadline=None, max_examples=50)
@given(ANY_COSTS, st.integers(0, 10))
def test_no_whole_table_is_better_and_the_answer_is_always_the_same(by_tensor, most):
    first, second = (
        choose_ranges(three_tables(), Bench(by_tensor), most_trials=most) for _ in range(2)
    )
    assert first == second
    assert first.sqnr_db >= max(first.scores.values())
    assert Bench(by_tensor)(first.table).sqnr_db == first.sqnr_db
    assert list(first.table.tensors) == list(TENSORS)


# ---- a quicker measurement


def test_trials_are_measured_near_the_best_whole_table():
    tables, exact = three_tables(), Bench(costs(b="max"))
    quick, asked = Bench(costs(b="max")), []

    def near(given: CalibrationTable) -> Bench:
        asked.append(given)
        return quick

    choice = choose_ranges(tables, exact, near=near)
    assert asked == [tables["entropy"]]
    assert len(exact.measured) == len(METHODS) + 1  # and what was found
    assert len(quick.measured) == len(choice.trials) + 1  # and where it started
    assert choice.table.tensors["b"].method == "max"


def test_what_the_quick_measurement_wrongly_found_is_dropped():
    tables = three_tables()
    choice = choose_ranges(tables, Bench(costs()), near=lambda table: Bench(costs(b="max")))
    assert choice.table is tables["entropy"]
    assert choice.sqnr_db == choice.scores["entropy"]
    assert choice.trials
    assert not any(trial.kept for trial in choice.trials)


def test_without_a_candidate_nothing_more_is_measured():
    tables = {m: table(m, dict.fromkeys(TENSORS, 2.0)) for m in METHODS}
    asked: list[CalibrationTable] = []
    choose_ranges(tables, Bench(costs()), near=lambda given: asked.append(given) or Bench(costs()))
    assert not asked
