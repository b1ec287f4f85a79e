"""A build, explained."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable
from edgeq.explain.explain import MAX_INPUTS, explain
from edgeq.quantize.convert import quantize
from edgeq.samples.store import Sample
from edgeq.tflite.model import TYPE_CODES, Model, indices
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import explained
from tests.quantize import awkward

SAMPLES = drawn(12, image=(1, 8, 8, 3))
INPUTS = [sample.inputs for sample in SAMPLES]


def test_no_more_than_eight_inputs_are_taken():
    assert explained(tiny.tiny_model(), SAMPLES, inputs=INPUTS).samples == MAX_INPUTS


def test_inputs_of_other_shapes_are_left_out():
    odd = {"image": np.zeros((1, 9, 9, 3), np.float32)}
    assert explained(tiny.tiny_model(), SAMPLES, inputs=[INPUTS[0], odd]).samples == 1


def test_without_inputs_the_tensors_alone_are_explained_and_it_says_why():
    explanation = explained(tiny.tiny_model(), SAMPLES, inputs=[])
    assert explanation.tensors
    assert explanation.layers == explanation.worst == ()
    assert "no sample" in explanation.unmeasured


def test_where_the_models_refuse_the_inputs_it_says_so():
    explanation = explained(tiny.tiny_model(), SAMPLES, inputs=[{"other": np.zeros(1)}])
    assert explanation.tensors
    assert explanation.unmeasured.startswith("the models cannot be run side by side: input 'other'")


def test_half_precision_weights_are_explained_as_the_quantizer_sees_them():
    g = tiny.GraphBuilder({"x": (1, 4)})
    half = g.constant("w16", np.eye(4, dtype=np.float16), "FLOAT16")
    weights = g.op("DEQUANTIZE", [half], ("w", (4, 4)))
    bias = g.constant("b", np.zeros(4, np.float32))
    model = g.finish(g.op("FULLY_CONNECTED", [0, weights, bias], ("y", (1, 4)),
                          options="FullyConnectedOptions"))  # fmt: skip
    explanation = explained(model, drawn(8, x=(1, 4)))
    assert [each.tensor for each in explanation.layers] == ["x", "y"]


def test_an_extent_that_the_file_leaves_open_takes_the_one_of_the_inputs():
    g = tiny.GraphBuilder({"x": (1, 1, 4)})
    model = g.finish(g.op("LOGISTIC", [g.op("TANH", [0], ("t", (1, 1, 4)))], ("y", (1, 1, 4))))
    for tensor in model.tensors:
        tensor.shapeSignature = np.array([1, -1, 4], np.int32)
    explanation = explained(model.copy(), drawn(8, x=(1, 7, 4)))
    assert explanation.unmeasured == ""
    assert [each.tensor for each in explanation.layers] == ["x", "t", "y"]


@pytest.mark.parametrize("name", sorted(set(awkward.MODELS) - {"int8 island"}))
def test_an_awkward_model_is_explained_to_its_last_layer(name):
    model = awkward.MODELS[name]()
    samples = awkward.samples(model)
    made: list[Model] = []

    def seen(int8: Model) -> Model:
        made.append(int8)
        return int8

    explanation = explained(model, samples, changed=seen)
    written = [t for op in made[0].operators for t in indices(op.outputs)]
    int8 = [t for t in written if made[0].type_name(t) == "INT8"]
    assert explanation.unmeasured == ""
    assert len(explanation.layers) == len(int8)
    assert all(each.sqnr_db > 20 for each in explanation.layers)
    assert sum(each.share for each in explanation.layers) == pytest.approx(1.0, abs=1e-4)


def test_what_costs_a_choice_is_measured_before_it():
    g = tiny.GraphBuilder({"x": (1, 16)})
    axis = g.constant("axis", np.array([1], np.int32), "INT32")
    values = g.op("ABS", [0], ("abs", (1, 16)))
    model = g.finish(g.op("ARG_MAX", [values, axis], ("class", (1,)), type_name="INT64",
                          options="ArgMaxOptions", outputType=TYPE_CODES["INT64"]))  # fmt: skip
    explanation = explained(model, drawn(8, x=(1, 16)))
    assert {each.tensor for each in explanation.worst} == {"x", "abs"}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["kws_dscnn", "vww96"])
def test_a_real_model_is_explained_to_its_last_layer(shared, name):
    model = Model.read(shared / "data" / "models" / f"{name}_fp32.tflite")
    shape = model.shape(model.inputs[0])
    given = model.names()[model.inputs[0]]
    samples = [Sample(s.id, {given: s.inputs["x"]}) for s in drawn(6, x=shape)]
    collection = collect(model, samples)
    table = CalibrationTable.from_histograms("", "mse", 6, collection.histograms)
    int8 = quantize(model, table).model
    found = explain(model, int8, table, collection.histograms, [s.inputs for s in samples])
    assert found.unmeasured == ""
    assert len(found.worst) == 5
    assert {t.name for t in found.tensors} == set(table.tensors)
    assert all(each.sqnr_db > 0 for each in found.layers)
