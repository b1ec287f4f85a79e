"""Which activations are shown, and that they are the INT8 model's own."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.drift.activations import (
    Tapped,
    activation_streams,
    choose_activations,
    tensors_of,
)
from edgeq.tflite.runtime import Runner
from edgeq.tflite.tap import tap
from tests.drift.conftest import Digits


def test_the_first_four_and_four_spread_to_the_last_are_chosen(int8_digits: Digits):
    int8 = int8_digits.int8
    names = [stream.name for stream in activation_streams(int8, choose_activations(int8))]
    ops = [int8.op_name(int8.operators[int8.producers()[t]]) for t in choose_activations(int8)]
    assert len(names) == len(set(names)) == 8
    assert ops[:4] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"]
    assert ops[-1] == "FULLY_CONNECTED"  # not the SOFTMAX: that is the output
    assert "RESHAPE" not in ops
    assert not any(";" in name or name.endswith("_int8") for name in names)


def test_a_streams_tensor_is_found_again_in_the_model(int8_digits: Digits):
    int8, chosen = int8_digits.int8, choose_activations(int8_digits.int8)
    streams = activation_streams(int8, chosen)
    assert list(tensors_of(int8, streams).values()) == chosen


def test_what_is_counted_is_what_the_model_computes(int8_digits: Digits):
    int8, frame = int8_digits.int8, int8_digits.frames[3]
    tensors = tensors_of(int8, activation_streams(int8, choose_activations(int8)))
    shown = Tapped(int8, tensors, threads=1, with_outputs=True).run(frame)
    plain, _ = tap(int8, list(tensors.values()))
    values = Runner(plain.to_bytes()).run(frame).values()
    for (name, counts), codes in zip(shown.counts.items(), values, strict=True):
        expected = np.bincount(codes.reshape(-1).astype(np.int64) + 128, minlength=256)
        assert np.array_equal(counts, expected), name
    assert shown.outputs["scores"] == pytest.approx(int8_digits.answers[3]["scores"])


def test_outputs_and_counts_come_only_where_they_are_wanted(int8_digits: Digits):
    int8 = int8_digits.int8
    tensors = tensors_of(int8, activation_streams(int8, choose_activations(int8)))
    assert Tapped(int8, tensors, threads=1).run(int8_digits.frames[0]).outputs == {}
    both = Tapped(int8, tensors, threads=1, with_outputs=True)
    assert both.run(int8_digits.frames[0], counting=False).counts == {}
    both.close()
