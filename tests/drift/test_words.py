from __future__ import annotations

from dataclasses import replace

from edgeq.drift.state import TensorDrift
from edgeq.drift.words import reason_in_words, unfit_in_words

IMAGES = frozenset({"image"})

DRIFT = TensorDrift(
    tensor="image",
    kind="input",
    psi=0.61,
    js_distance=0.2,
    wasserstein_ratio=0.5,
    ks_ratio=0.3,
    hellinger=0.2,
    statistic="psi",
    threshold=0.09,
    low_ratio=0.0,
    high_ratio=0.0,
    low_reference=0.0,
    high_reference=0.0,
    low_threshold=0.02,
    high_threshold=0.02,
    mean_shift=-0.5,
    scale_ratio=0.5,
    frames=200.2,
    active=True,
)
CONV = replace(
    DRIFT, tensor="conv_12", kind="activation", psi=0.01, high_ratio=0.031, high_reference=0.001
)


def words(*drifts: TensorDrift) -> str:
    return reason_in_words(drifts, IMAGES)


def test_the_reason_says_what_how_and_how_sure():
    assert words(CONV, DRIFT) == (
        "input 'image': darker, PSI 0.61 > 0.09 at n=200; conv_12 saturates 3.1 % against 0.1 %"
    )


def test_what_is_no_image_is_lower_or_higher():
    assert words(replace(DRIFT, tensor="mfcc")).startswith("input 'mfcc': lower, PSI")
    assert words(replace(DRIFT, tensor="mfcc", mean_shift=2.0)).startswith("input 'mfcc': higher")
    assert words(replace(DRIFT, mean_shift=0.01)) == "input 'image': PSI 0.61 > 0.09 at n=200"


def test_scalars_and_classes_are_told_in_their_own_words():
    blur = replace(
        DRIFT, tensor="image/sharpness", kind="scalar", statistic="wasserstein_ratio", threshold=0.4
    )
    assert words(blur) == (
        "input 'image': less sharp, Wasserstein 0.50 > 0.40 of its sharpness at n=200"
    )
    unsure = replace(blur, tensor="a/probs/entropy", mean_shift=1.0)
    assert words(unsure).startswith("output 'a/probs': less certain, Wasserstein")
    classes = replace(
        DRIFT, tensor="probs/class", kind="classes", statistic="js_distance", threshold=0.1
    )
    assert words(classes) == "output 'probs': other classes, JS distance 0.20 > 0.10 at n=200"


def test_the_worst_comes_first_one_clause_for_a_tensor_and_few_in_all():
    many = [replace(CONV, tensor=f"conv_{n}", high_ratio=0.1 - n / 100) for n in range(5)]
    brightness = replace(DRIFT, tensor="image/brightness", kind="scalar", psi=0.3)
    clauses = words(*many, brightness, DRIFT).split("; ")
    assert clauses[0].startswith("input 'image': darker, PSI 0.61")
    assert clauses[1:] == [
        "conv_0 saturates 10.0 % against 0.1 %",
        "conv_1 saturates 9.0 % against 0.1 %",
        "3 more",
    ]


def test_zeros_of_a_relu_are_not_called_saturated():
    sparse = replace(DRIFT, tensor="relu", kind="activation", psi=0.01, low_ratio=0.4,
                     low_reference=0.3, starts_at_zero=True)  # fmt: skip
    assert words(sparse) == "relu is zero 40.0 % against 30.0 %"
    assert words(replace(sparse, starts_at_zero=False)) == "relu saturates 40.0 % against 30.0 %"


def test_a_drift_that_is_ending_is_measured_against_where_it_ends():
    assert words(replace(DRIFT, psi=0.085)).endswith("PSI 0.09 > 0.07 at n=200")


def test_a_source_that_fails_is_told_from_a_scene_that_changed():
    health = {"image/stuck": 0.95, "image/too_dark": 1.0, "a/b/not_finite": 0.1}
    assert unfit_in_words(health) == (
        "input 'image': 95 % of the frames are the same as the one before, as of a stuck camera"
    )
    assert unfit_in_words({"image/stuck": 0.5}) == ""
