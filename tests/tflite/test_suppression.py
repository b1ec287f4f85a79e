"""Detections are compared before they are sorted and thinned out."""

from __future__ import annotations

import numpy as np

from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.suppression import before_suppression
from tests import tiny
from tests.quantize import joined
from tests.quantize.minmax import minmax_table


def _output_names(model: Model) -> list[str]:
    return [spec.name for spec in Runner(model.to_bytes()).outputs]


def test_a_suppressing_model_gives_the_boxes_and_scores_it_reads() -> None:
    model = joined.with_suppression()
    opened = before_suppression(model)
    assert _output_names(opened) == ["boxes", "scores"]
    assert _output_names(model)[0] == "best_boxes"
    (given,) = joined.inputs(1)
    scores = Runner(opened.to_bytes()).run(given)["scores"][..., 1:]  # without the background
    best = Runner(model.to_bytes()).run(given)["best_scores"]
    assert np.isclose(best[0, 0], scores.max())


def test_the_int8_form_gives_them_under_the_same_names() -> None:
    model = joined.with_suppression()
    int8 = quantize(model, minmax_table(model, joined.inputs(8))).model
    assert _output_names(before_suppression(int8)) == ["boxes", "scores"]


def test_other_outputs_stay_in_their_order() -> None:
    model = joined.with_suppression()
    stem = model.names().index("stem")
    model.graph.outputs = np.array([stem, *model.outputs], np.int32)
    assert _output_names(before_suppression(model)) == ["stem", "boxes", "scores"]


def test_a_model_without_suppression_comes_back_as_it_is() -> None:
    model = tiny.tiny_model()
    assert before_suppression(model) is model
