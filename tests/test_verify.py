from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CalibrationError
from edgeq.samples.store import Sample
from edgeq.tflite.runtime import TensorSpec
from edgeq.verify import (
    LIMIT_DB,
    OutputComparison,
    VerifyOptions,
    decibels,
    rank,
    verify,
    wilson_upper,
)

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


class FakeEngine:
    """An engine that answers by a function."""

    kind = "cpu-int8"
    inputs = (TensorSpec("x", (1, 4), np.dtype(np.float32)),)

    def __init__(self, infer: Answer, *outputs: str) -> None:
        self.infer = infer
        self.outputs = tuple(TensorSpec(n, (1, 4), np.dtype(np.float32)) for n in outputs or ("y",))

    def close(self) -> None:
        pass


def floats(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def compare(*pairs: tuple[np.ndarray, np.ndarray], task: Any = "auto") -> Any:
    comparison = OutputComparison("y", task)
    for reference, actual in pairs:
        comparison.add(reference, actual)
    return comparison.fidelity()


def judge(reference: Answer, candidate: Answer, count: int = 20, **options: Any) -> Any:
    samples = [Sample(str(n), {"x": np.full((1, 4), n, np.float32)}) for n in range(count)]
    return verify(reference, FakeEngine(candidate), samples, VerifyOptions(**options))


# ---- the interval


@pytest.mark.parametrize(
    ("successes", "trials", "upper"),
    [(81, 263, 0.3662), (15, 148, 0.1605), (0, 20, 0.1611), (1, 29, 0.1718)],
)
def test_the_wilson_bound_is_the_published_one(successes, trials, upper):
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: two-sided 95 %
    assert wilson_upper(successes, trials, z=1.959964) == pytest.approx(upper, abs=5e-5)


def test_the_bound_is_one_sided():
    assert wilson_upper(0, 10) == pytest.approx(1.645**2 / (10 + 1.645**2))


@given(st.integers(1, 500), st.data())
def test_the_wilson_bound_lies_above_the_share_and_at_most_at_one(trials, data):
    successes = data.draw(st.integers(0, trials))
    upper = wilson_upper(successes, trials)
    assert successes / trials <= upper + 1e-12
    assert upper <= 1.0


@given(st.integers(1, 500))
def test_agreement_in_every_sample_reaches_any_threshold(trials):
    assert wilson_upper(trials, trials) == pytest.approx(1.0)


# ---- the figures


def test_an_exact_match_is_reported_at_the_limit():
    values = floats(1, -2, 3, 0)
    figures = compare((values, values))
    assert (figures.sqnr_db, figures.cosine, figures.nonfinite) == (LIMIT_DB, 1.0, 0)
    json.dumps(figures.sqnr_db, allow_nan=False)


def test_sqnr_and_cosine_are_those_of_the_formulas():
    reference, actual = floats(3, 4, 0, 0), floats(3, 3, 0, 0)
    figures = compare((reference, actual))
    assert figures.sqnr_db == pytest.approx(10 * math.log10(25 / 1))
    assert figures.cosine == pytest.approx(21 / (5 * math.sqrt(18)))


def test_all_zeros_on_both_sides_are_a_match():
    figures = compare((floats(0, 0), floats(0, 0)))
    assert (figures.sqnr_db, figures.cosine) == (LIMIT_DB, 1.0)


def test_noise_where_float_is_all_zeros_is_none():
    figures = compare((floats(0, 0), floats(0, 1)))
    assert (figures.sqnr_db, figures.cosine) == (-LIMIT_DB, 0.0)


def test_zeros_where_float_is_not_have_no_cosine():
    figures = compare((floats(1, 0), floats(0, 0)))
    assert (figures.sqnr_db, figures.cosine) == (0.0, 0.0)


def test_values_that_became_nan_or_infinite_are_counted():
    figures = compare((floats(1, 2, 3), floats(np.nan, np.inf, 3)))
    assert figures.nonfinite == 2
    assert math.isfinite(figures.cosine)


def test_values_that_are_nan_in_float_say_nothing():
    figures = compare((floats(np.nan, 2, 3), floats(7, 2, 3)))
    assert (figures.nonfinite, figures.sqnr_db) == (0, LIMIT_DB)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32)),
                min_size=2, max_size=12), st.randoms())  # fmt: skip
def test_the_order_of_the_samples_does_not_matter(pairs, random):
    arrays = [(floats(a, b), floats(a, b + 0.25)) for a, b in pairs]
    shuffled = list(arrays)
    random.shuffle(shuffled)
    assert compare(*arrays) == compare(*shuffled)


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(1.0, 0.0, 200.0), (0.0, 0.0, 200.0), (0.0, 1.0, -200.0), (100.0, 1.0, 20.0),
     (1e300, 1e-300, 200.0)],
)  # fmt: skip
def test_decibels_stay_within_what_json_can_hold(signal, noise, expected):
    assert decibels(signal, noise) == pytest.approx(expected)


# ---- what is a score vector


@pytest.mark.parametrize("values", [floats(0.7, 0.2, 0.1), floats(0.5, 0.5)[0]])
def test_a_probability_vector_is_judged_by_its_top_class(values):
    assert compare((values, values)).agreement == 1.0


@pytest.mark.parametrize(
    "values",
    [floats(0.7, 0.2, 0.3), floats(1.5, -0.5), floats(1.0), np.full((1, 2, 2), 0.25, np.float32),
     np.float32(1.0).reshape(())],
)  # fmt: skip
def test_anything_else_is_judged_by_its_distance(values):
    assert compare((values, values)).agreement is None


def test_one_vector_that_does_not_sum_to_one_shows_that_none_is_a_score():
    scores, other = floats(0.5, 0.5), floats(0.5, 0.9)
    assert compare((scores, scores), (other, other)).agreement is None
    assert compare((other, other), (scores, scores)).agreement is None


def test_logits_are_judged_by_their_top_class_where_the_task_says_so():
    logits, other = floats(3, 9, -2), floats(3, 2, -2)
    assert compare((logits, logits), (logits, other), task="classification").agreement == 0.5
    assert compare((logits, logits), task="regression").agreement is None
    square = np.ones((1, 2, 2), np.float32)
    assert compare((square, square), task="classification").agreement is None


def test_a_broken_float_answer_does_not_hide_that_the_output_is_a_score():
    scores = floats(0.9, 0.1)
    broken = floats(np.nan, np.nan)
    assert compare((broken, scores), (scores, scores)).agreement == 1.0


# ---- the verdict, in words


def scores_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"y": floats(0.9, 0.1, 0.0, 0.0)}


def wrong_from(start: int) -> Answer:
    def infer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        is_right = inputs["x"][0, 0] < start
        return {"y": floats(0.9, 0.1, 0.0, 0.0) if is_right else floats(0.1, 0.9, 0.0, 0.0)}

    return infer


def test_an_engine_that_agrees_passes():
    verdict = judge(scores_of, scores_of)
    assert verdict.passed
    assert verdict.reasons == ()
    assert (verdict.samples, verdict.agreement) == (20, 1.0)


def test_a_few_disagreements_that_chance_explains_pass():
    verdict = judge(scores_of, wrong_from(18))
    assert verdict.passed
    assert verdict.agreement == 0.9 < verdict.thresholds.agreement


def test_too_many_disagreements_are_refused_with_both_shares():
    verdict = judge(scores_of, wrong_from(14))
    (reason,) = verdict.reasons
    assert reason == (
        "output 'y' chooses as float does in 70.0% of 20 samples (at best 83.6%); "
        "the gate asks for 95.0%"
    )


def test_a_flip_between_near_equals_is_no_error_but_is_counted():
    undecided, other = floats(0.4, 0.3, 0.2, 0.1), floats(0.3, 0.4, 0.2, 0.1)
    figures = compare(*[(undecided, other)] * 10)
    assert (figures.agreement, figures.accepted, figures.accepted_upper) == (0.0, 1.0, 1.0)
    far = floats(0.2, 0.1, 0.3, 0.4)  # float gives its last class a quarter of its first
    assert compare(*[(undecided, far)] * 10).accepted == 0.0


def test_logits_are_near_equal_by_the_likelihoods_they_stand_for():
    logits, near, far = floats(2.0, 1.5, -3.0), floats(1.0, 2.0, 0.0), floats(0.0, 1.0, 2.0)
    assert compare((logits, near), task="classification").accepted == 1.0
    assert compare((logits, far), task="classification").accepted == 0.0


def test_cosine_and_sqnr_are_refused_each_with_its_figure():
    def infer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": floats(1, -1, 0, 0)}

    verdict = judge(lambda _: {"y": floats(1, 1, 0, 0)}, infer)
    assert not verdict.passed
    assert verdict.reasons == (
        "output 'y' has cosine 0.0000 to float; the gate asks for 0.98",
        "output 'y' has SQNR -3.0 dB; the gate asks for 10.0 dB",
    )


def test_nan_is_refused_before_anything_else():
    verdict = judge(scores_of, lambda _: {"y": floats(np.nan, 0.1, 0.0, 0.0)})
    assert verdict.reasons == (
        "output 'y' has 20 values that are NaN or infinite; float's are not",
    )


def test_a_float_model_that_answers_nan_proves_nothing():
    verdict = judge(lambda _: {"y": floats(np.nan, np.nan)}, lambda _: {"y": floats(1, 2)})
    assert not verdict.passed
    assert "cannot be judged" in verdict.reasons[0]
    json.loads(json.dumps(verdict.as_dict(), allow_nan=False))


def test_an_output_of_another_shape_is_refused():
    verdict = judge(scores_of, lambda _: {"y": floats(1, 2)})
    assert verdict.reasons == ("output 'y' has another shape than float's in 20 of 20 samples",)


def test_every_output_has_to_pass():
    samples = [Sample("a", {"x": floats(1, 2, 3, 4)})]
    good = floats(1, 2)

    def reference(_: Mapping[str, Any]) -> dict[str, Any]:
        return {"good": good, "bad": good}

    engine = FakeEngine(lambda _: {"good": good, "bad": -good}, "good", "bad")
    verdict = verify(reference, engine, samples, VerifyOptions())
    assert not verdict.passed
    assert all("'bad'" in reason for reason in verdict.reasons)
    assert (verdict.cosine, verdict.sqnr_db) == (
        pytest.approx(-1.0),
        pytest.approx(-6.02, abs=0.01),
    )


def test_without_a_held_out_sample_there_is_no_verdict():
    with pytest.raises(CalibrationError, match="no held-out sample"):
        judge(scores_of, scores_of, count=0)


def test_progress_counts_the_samples():
    steps: list[int] = []
    samples = [Sample(str(n), {"x": floats(1, 2, 3, 4)}) for n in range(3)]
    verify(scores_of, FakeEngine(scores_of), samples, VerifyOptions(), steps.append)
    assert steps == [1, 2, 3]


def test_the_verdict_s_json_holds_thresholds_and_worst_figures():
    verdict = judge(scores_of, scores_of)
    content = json.loads(verdict.to_json())
    assert content["thresholds"] == {
        "agreement": 0.95, "cosine": 0.98, "sqnr_db": 10.0, "task": "auto",
    }  # fmt: skip
    assert (content["agreement"], content["cosine"], content["sqnr_db"]) == (1.0, 1.0, 200.0)


# ---- the choice between candidates


def test_candidates_are_ranked_by_their_worst_output():
    samples = [Sample("a", {"x": floats(1, 2, 3, 4)})]
    value = floats(10, 10)

    def reference(_: Mapping[str, Any]) -> dict[str, Any]:
        return {"a": value, "b": value}

    exact = FakeEngine(reference, "a", "b")
    half = FakeEngine(lambda _: {"a": value, "b": value + 1}, "a", "b")
    scores = rank(reference, {"exact": exact, "half": half}, samples)
    assert scores == {"exact": LIMIT_DB, "half": 20.0}


def test_what_all_logits_have_in_common_is_no_error():
    """A softmax gives the same for them."""
    samples = [Sample("a", {"x": floats(1)})]

    def reference(_: Mapping[str, Any]) -> dict[str, Any]:
        return {"logits": floats(3, 1, 2)}

    moved = FakeEngine(lambda _: {"logits": floats(8, 6, 7)}, "logits")
    assert rank(reference, {"moved": moved}, samples, logits={"logits"}) == {"moved": LIMIT_DB}
    assert rank(reference, {"moved": moved}, samples)["moved"] < 0


def test_without_samples_nothing_is_ranked():
    assert rank(scores_of, {"a": FakeEngine(scores_of)}, []) == {}


# ---- parts


def parts(sample: Sample) -> tuple[str, ...]:
    return ("new",) if int(sample.id) >= 30 else ("old", "before")


def judge_parts(wrong: Callable[[float], bool]) -> Any:
    """40 samples, of which the last ten are new; the engine chooses another class where `wrong`."""
    samples = [Sample(str(n), {"x": np.full((1, 4), n, np.float32)}) for n in range(40)]

    def answer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": floats(*((0, 1) if wrong(inputs["x"][0, 0]) else (1, 0)), 0, 0)}

    reference = FakeEngine(lambda _: {"y": floats(1, 0, 0, 0)})
    options = VerifyOptions(agreement=0.8)
    return verify(reference.infer, FakeEngine(answer), samples, options, None, parts)


def test_each_part_must_pass_by_itself():
    verdict = judge_parts(lambda x: x >= 35)
    assert not verdict.passed
    assert verdict.agreement == 35 / 40  # over all together it would do
    (reason,) = verdict.reasons
    assert reason.startswith("new samples: output 'y' chooses as float does in 50.0%")
    assert verdict.parts["old"].passed


def test_parts_are_in_the_verdict_beside_what_was_there_before():
    whole = judge_parts(lambda x: x < 0).as_dict()
    assert whole["passed"]
    assert (whole["old"]["samples"], whole["new"]["samples"]) == (30, 10)
    assert whole["strata"]["before"]["agreement"] == 1.0
    plain = judge(lambda _: {"y": floats(1, 0, 0, 0)}, lambda _: {"y": floats(1, 0, 0, 0)})
    assert set(whole) - set(plain.as_dict()) == {"old", "new", "strata"}
    json.loads(judge_parts(lambda x: x < 0).to_json())
