"""Awkward models, cut wherever an op has no kernel, answer as they do uncut, byte for byte."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeq.engines.cuda.lowering import partition as partitions
from edgeq.engines.cuda.lowering.partition import CpuPart, partition
from edgeq.errors import EngineError
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from tests.engines.cuda.lowered import differing_bytes
from tests.quantize import awkward, joined
from tests.quantize.minmax import minmax_table

REFUSED = {"int8 island", "free extents"}  # by the quantizer; by the GPU
JOINED = (joined.detector, joined.joined_then_split, joined.with_suppression, joined.inception)
DRAWN_NETS = 12


def assert_exact(model: Model) -> None:
    samples = [sample.inputs for sample in awkward.samples(model, 4)]
    int8 = quantize(model, minmax_table(model, samples)).model
    assert differing_bytes(int8, samples[:2]) == 0


@pytest.fixture(params=["as it pays", "wherever it can"])
def crossings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move small pieces over to the CPU, or none."""
    if request.param == "wherever it can":
        monkeypatch.setattr(partitions, "SMALL_ELEMENTS", -1)


@pytest.mark.usefixtures("crossings")
@pytest.mark.parametrize("name", sorted(set(awkward.MODELS) - REFUSED))
def test_an_awkward_model_answers_as_it_does_uncut(name: str) -> None:
    assert_exact(awkward.MODELS[name]())


@pytest.mark.usefixtures("crossings")
@pytest.mark.parametrize("make", JOINED, ids=lambda make: make.__name__)
def test_joined_heads_answer_as_they_do_uncut(make: Callable[[], Model]) -> None:
    assert_exact(make())


@pytest.mark.usefixtures("crossings")
@pytest.mark.parametrize("seed", range(DRAWN_NETS))
def test_a_drawn_net_answers_as_it_does_uncut(seed: int) -> None:
    assert_exact(joined.drawn_net(np.random.default_rng(seed), 12))


def test_what_never_changes_is_a_part_without_ops() -> None:
    model = awkward.MODELS["constant output"]()
    samples = [sample.inputs for sample in awkward.samples(model, 2)]
    _, last = partition(quantize(model, minmax_table(model, samples)).model).parts
    assert isinstance(last, CpuPart)
    assert (last.inputs, last.outputs, last.ops) == ((), ("anchors",), ())


def test_free_extents_are_refused() -> None:
    model = awkward.MODELS["free extents"]()
    with pytest.raises(EngineError, match="only the batch may be free"):
        partition(model)
