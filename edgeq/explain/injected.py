"""The noise of each op, put into the float model -> how much of the outputs' noise it makes.

Noise that is small beside a tensor's energy may be all there is of what the next op reads, or
nothing that the outputs depend on. So the error that an op was seen to make is added to what the
float model computes there, and the outputs show what becomes of it.

A run for each op is exact, and what a small model gets. For a large one all errors are added at
once in every run, each with a sign by chance: what goes with an op's sign is its part.

Measured against each op's error alone, on 4 inputs (DeepLab 1): the five ops with the largest
shares hold 77, 66, 97, 83, 56, 76 and 42 % of the noise on ResNet-8, VWW, KWS, AD, MobileNet,
UltraFace and DeepLab, where the best five hold 77, 80, 98, 83, 58, 82 and 52 %; the five that lose
most dB 62, 67, 97, 54, 40, 40 and 42 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.explain.comparison import energy
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Errors = Sequence[tuple[int, Array]]  # where an op writes in the float model, and its error

ADDED_SUFFIX = "/added"
CHOICES = frozenset({"SOFTMAX", "ARG_MAX", "ARG_MIN"})  # where they are sure they hide all noise
MAX_VALUES = 1 << 26  # activations of all runs together, if that is a run for each op: 0.5 s
SIGNED_VALUES = 1 << 27  # and if not
LEAST_RUNS = 6


class Injection:
    """Sums over the inputs what each op's error does to the outputs."""

    def __init__(self, model: Model, threads: int) -> None:
        self._model, self._threads = model, threads
        self._runner: Runner | None = None  # it needs to know real shapes
        self._added: dict[str, int] = {}
        self._draw = np.random.default_rng(0)
        self._parts: Array = np.zeros(0)
        self._zeros: dict[int, Array] = {}
        self._left = self._at_once = 0  # runs

    def add(self, inputs: Inputs, errors: Errors) -> None:
        """Take in one input, and the errors that were seen on it, while there is time left."""
        if not errors:
            return
        if self._runner is None:
            self._open(errors)
        if self._left < self._at_once:
            return
        self._left -= self._at_once
        weights: Array = np.eye(len(errors))
        if self._at_once < len(errors):
            weights = self._draw.integers(0, 2, (self._at_once, len(errors))) * 2.0 - 1.0
        plain = self._run(inputs, [])
        moved = [self._run(inputs, list(zip(row, errors, strict=True))) for row in weights]
        for end, reference in enumerate(plain):
            self._add_end(weights, reference, [each[end] for each in moved])

    def _open(self, errors: Errors) -> None:
        shapes = {t: error.shape for t, error in errors if t not in self._model.inputs}
        made, self._added = injectable(self._model, shapes)
        self._runner = Runner(made.to_bytes(), threads=self._threads)
        largest = max((error.size for _, error in errors), default=0)
        zeros = np.zeros(largest, np.float32)  # one for all: they are read only
        self._zeros = {t: zeros[: error.size].reshape(error.shape) for t, error in errors}
        self._parts = np.zeros(len(errors))
        self._left, self._at_once = _runs(errors)

    def _run(
        self, inputs: Inputs, weighted: Sequence[tuple[float, tuple[int, Array]]]
    ) -> list[Array]:
        """Return the outputs with this multiple of each error added."""
        names, sums = self._model.names(), dict[int, Array]()
        for weight, (tensor, error) in weighted:
            if weight:
                sums[tensor] = sums.get(tensor, np.float32(0)) + np.float32(weight) * error
        fed = {name: sums.get(t, self._zeros[t]) for name, t in self._added.items()}
        given = {names[t]: inputs[names[t]] for t in self._model.inputs}
        given |= {names[t]: inputs[names[t]] + sums[t] for t in self._model.inputs if t in sums}
        assert self._runner is not None
        return list(self._runner.run({**given, **fed}).values())

    def _add_end(self, weights: Array, reference: Array, changed: Sequence[Array]) -> None:
        expected = reference.astype(np.float64).ravel()
        moved = np.stack([each.ravel() for each in changed]) - expected
        signal = energy(expected)
        if signal > 0.0 and np.isfinite(moved).all():
            self._parts += parts(weights, moved) / signal

    def shares(self) -> list[float]:
        """Return each op's share; they add up to 1 but for where there is no noise at all."""
        found = np.maximum(self._parts, 0.0)
        total = float(found.sum())
        return [float(part) / total if total else 0.0 for part in found]

    def close(self) -> None:
        """Free the interpreter."""
        if self._runner is not None:
            self._runner.close()


def most_inputs(errors: Errors) -> int:
    """Return how many inputs with errors of this size an injection takes."""
    left, at_once = _runs(errors)
    return left // max(at_once, 1)


def _runs(errors: Errors) -> tuple[int, int]:
    """Return how many runs there are in all, and for one input."""
    size = max(1, sum(error.size for _, error in errors))
    if MAX_VALUES // size >= len(errors):
        return MAX_VALUES // size, len(errors)
    return (max(SIGNED_VALUES // size, LEAST_RUNS),) * 2


def parts(weights: Array, moved: Array) -> Array:
    """Return the energy of each op's part of what moved in each run.

    By signs, the mean of sign * moved is the op's part and, by chance, some of the others'. Leaving
    out each run's product with itself takes away what chance adds on average.

    Args:
        weights: what each op's error was multiplied by: one op a run, or a sign for all of them.
            [runs, ops]
        moved: what the outputs changed by  # [runs, values]
    """
    runs = len(weights)
    products = np.einsum("kd,ld->kl", moved, moved)
    if np.array_equal(weights, np.eye(runs)):
        alone: Array = products.diagonal().copy()
        return alone
    np.fill_diagonal(products, 0.0)
    found: Array = np.einsum("ki,kl,li->i", weights, products, weights) / (runs * (runs - 1))
    return found


def injectable(model: Model, shapes: Mapping[int, tuple[int, ...]]) -> tuple[Model, dict[str, int]]:
    """Return the model with a further input for each of these activations, added to it.

    The second value is the tensor of `model` behind each further input. The outputs are `ends`.

    Args:
        model: the float model; it is not changed.
        shapes: activations that ops write, with their real shapes.
    """
    names, result = model.names(), model.copy()
    result.proto.signatureDefs = []  # they know nothing of the new inputs
    operators: list[Any] = []
    added, sums = dict[int, int](), dict[int, int]()
    for operator in result.operators:
        inputs = [sums.get(t, t) for t in indices(operator.inputs)]
        operator.inputs = np.asarray(inputs, np.int32)
        operators.append(operator)
        for tensor in (t for t in indices(operator.outputs) if t in shapes):
            name, shape = f"{names[tensor]}{ADDED_SUFFIX}", shapes[tensor]
            added[tensor] = result.add_tensor(name, shape, "FLOAT32")
            sums[tensor] = result.add_tensor(f"{name}/sum", shape, "FLOAT32")
            pair = [tensor, added[tensor]]
            operators.append(result.make_operator("ADD", 1, pair, [sums[tensor]]))
    result.graph.operators = operators
    result.graph.inputs = np.asarray([*model.inputs, *added.values()], np.int32)
    result.graph.outputs = np.asarray([sums.get(t, t) for t in ends(model)], np.int32)
    inside = result.names()
    return result, {inside[new]: tensor for tensor, new in added.items()}


def ends(model: Model) -> list[int]:
    """Return the float activations that the outputs are, or that they are chosen from."""
    producers, found = model.producers(), dict[int, None]()
    for output in model.outputs:
        maker = model.operators[producers[output]] if output in producers else None
        if maker is not None and model.op_name(maker) in CHOICES:
            output = indices(maker.inputs)[0]
        if output in producers and model.type_name(output) == "FLOAT32":
            found[output] = None
    return list(found)
