"""What becomes of an op's error at the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.explain import injected
from edgeq.explain.injected import Injection, ends, injectable, parts
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.explain.ill import explained
from tests.quantize.joined import Net
from tests.quantize.sensitive import chain, dead_channel_samples


def two_scales() -> tuple[tiny.Model, dict[str, int]]:
    """x -> half = x * 0.5 -> tenth = half * 0.2, and the tensors by name."""
    g = tiny.GraphBuilder({"x": (1, 4)})
    half = g.op("MUL", [0, g.constant("c", np.full(4, 0.5, np.float32))], ("half", (1, 4)),
                options="MulOptions")  # fmt: skip
    tenth = g.op("MUL", [half, g.constant("d", np.full(4, 0.2, np.float32))], ("tenth", (1, 4)),
                 options="MulOptions")  # fmt: skip
    model = g.finish(tenth)
    return model, {name: index for index, name in enumerate(model.names())}


def test_what_is_added_is_read_by_all_ops_behind():
    model, at = two_scales()
    made, added = injectable(model, {at["half"]: (1, 4), at["tenth"]: (1, 4)})
    assert set(added.values()) == {at["half"], at["tenth"]}
    x = {"x": np.ones((1, 4), np.float32)}
    given = {name: np.full((1, 4), 10.0 if tensor == at["half"] else 3.0, np.float32)
             for name, tensor in added.items()}  # fmt: skip
    (result,) = Runner(made.to_bytes()).run({**x, **given}).values()
    assert np.allclose(result, (0.5 + 10.0) * 0.2 + 3.0)


def test_with_nothing_added_it_is_the_model():
    net = Net()
    model = net.finish(net.joined(list(net.branches(boxes=2.0)), (1, 36, 8)))
    at = {name: index for index, name in enumerate(model.names())}
    made, added = injectable(model, {at["stem"]: (1, 6, 6, 8), at["box"]: (1, 6, 6, 4)})
    inputs = {"image": np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)}
    shapes = {at["stem"]: (1, 6, 6, 8), at["box"]: (1, 6, 6, 4)}
    zeros = {name: np.zeros(shapes[tensor], np.float32) for name, tensor in added.items()}
    (expected,) = Runner(model.to_bytes()).run(inputs).values()
    (found,) = Runner(made.to_bytes()).run({**inputs, **zeros}).values()
    assert np.allclose(found, expected, atol=1e-6)


def test_the_end_is_before_a_softmax():
    model = tiny.tiny_model()
    assert [model.names()[tensor] for tensor in ends(model)] == ["logits"]
    plain, at = two_scales()
    assert ends(plain) == [at["tenth"]]


def test_each_error_counts_by_what_it_does_at_the_output():
    model, at = two_scales()
    injection = Injection(model, 1)
    error = np.full((1, 4), 0.01, np.float32)
    errors = [(at["x"], error), (at["half"], error), (at["tenth"], error)]
    for _ in range(3):
        injection.add({"x": np.ones((1, 4), np.float32)}, errors)
    injection.close()
    energies = np.array([0.1, 0.2, 1.0]) ** 2
    assert injection.shares() == pytest.approx(list(energies / energies.sum()), rel=1e-3)


def test_without_errors_or_inputs_there_are_no_shares():
    model, at = two_scales()
    injection = Injection(model, 1)
    assert injection.shares() == []
    injection.add({"x": np.ones((1, 4), np.float32)}, [])
    injection.add({"x": np.ones((1, 4), np.float32)}, [(at["x"], np.zeros((1, 4), np.float32))])
    assert injection.shares() == [0.0]


def test_by_chance_signs_the_parts_are_right_on_average():
    draw = np.random.default_rng(0)
    contributions = draw.normal(size=(12, 500)) * np.array([8.0, 4.0, *[1.0] * 10])[:, None]
    signs = draw.integers(0, 2, (200, 12)) * 2.0 - 1.0
    expected = np.square(contributions).sum(axis=1)
    found = parts(signs, signs @ contributions)
    assert found == pytest.approx(expected, abs=0.01 * expected.sum())
    assert parts(np.eye(12), contributions) == pytest.approx(expected)


def test_a_large_model_finds_its_worst_op_by_signs_too(monkeypatch):
    exact = explained(chain(huge_weight_at=2), dead_channel_samples())
    monkeypatch.setattr(injected, "MAX_VALUES", 0)
    monkeypatch.setattr(injected, "SIGNED_VALUES", 4 * 4 * 36 * 5)
    monkeypatch.setattr(injected, "LEAST_RUNS", 4)
    signed = explained(chain(huge_weight_at=2), dead_channel_samples())
    for explanation in (exact, signed):
        assert explanation.worst[0].tensor == "y2"
        assert explanation.layers[3].share > 0.8
    assert sum(each.share for each in signed.layers) == pytest.approx(1.0, abs=1e-4)


def test_outputs_that_are_not_finite_say_nothing():
    model, at = two_scales()
    injection = Injection(model, 1)
    huge = np.full((1, 4), 3e38, np.float32)
    with np.errstate(over="ignore"):
        injection.add({"x": huge}, [(at["x"], huge), (at["half"], huge)])
    injection.close()
    assert injection.shares() == [0.0, 0.0]
