"""A model in which every op reads what it is given."""

from __future__ import annotations

import numpy as np

from edgeq.explain.forced import forced
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.quantize.joined import Net


def test_an_op_reads_what_is_given_and_not_what_the_op_before_wrote():
    model = tiny.tiny_model()
    at = {name: index for index, name in enumerate(model.names())}
    shapes = {at["conv"]: (1, 8, 8, 6), at["relu"]: (1, 8, 8, 6)}
    made, fed = forced(model, shapes, [at["conv"], at["relu"]])
    before = model.to_bytes()
    assert fed == {"conv/given": at["conv"], "relu/given": at["relu"]}
    given = {name: np.full((1, 8, 8, 6), -1.0, np.float32) for name in fed}
    conv, relu = Runner(made.to_bytes()).run({**tiny.tiny_inputs(), **given}).values()
    assert np.array_equal(relu, np.zeros_like(relu))
    assert conv.max() > 0
    assert model.to_bytes() == before


def test_given_its_own_values_it_is_the_model():
    net = Net()
    model = net.finish(net.joined(list(net.branches(boxes=2.0)), (1, 36, 8)))
    at = {name: index for index, name in enumerate(model.names())}
    wanted = [at["stem"], at["box"], at["joined"]]
    plain, _ = forced(model, {}, wanted)
    inputs = {"image": np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)}
    values = dict(zip(wanted, Runner(plain.to_bytes()).run(inputs).values(), strict=True))
    made, fed = forced(model, {t: v.shape for t, v in values.items()}, wanted)
    assert set(fed.values()) == {at["stem"], at["box"]}  # nothing reads what is joined
    again = Runner(made.to_bytes()).run({**inputs, **{n: values[t] for n, t in fed.items()}})
    for value, other in zip(values.values(), again.values(), strict=True):
        assert np.allclose(value, other, atol=1e-5)
