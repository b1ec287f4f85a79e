"""Float model + samples -> what every float activation held, a batch of frames at a time.

Small models run several frames at once through a resized input, where the runtime then gives the
same values, bit for bit, as frame by frame; whether it does is tried on made-up frames, so that it
cannot depend on the samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.twins import Twin, find_twins
from edgeq.errors import CalibrationError, EngineError, InvalidRequestError
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from edgeq.tflite.tap import tap, tappable

Array = npt.NDArray[Any]

RECTIFIERS = frozenset({"RELU", "RELU6", "RELU_0_TO_1"})
MAX_BATCH = 32
LEAST_BATCH = 4  # two at once save less than trying it costs
# All activations of a batch: beyond the caches, a batch is slower than its frames one by one.
# Measured a frame, 1 | 8 | 32 at once: AD 16 | 9 | 5 us, ResNet-8 258 | 265 | 414 us.
BATCH_BYTES = 2 << 20


# Sees the samples and what they showed: the tensors of `TappedModel.shown`, each [batch, ...], of
# which the first frames are the samples'. They are views into the interpreter: let them go.
Look = Callable[[Sequence[Sample], list[Array], int], None]
Run = Callable[[Mapping[str, Array]], list[Array]]


class TappedModel:
    """The model with its float activations as outputs.

    `names` are those of the float inputs and activations, in execution order. Those in `twins` are
    not shown: theirs are the values of the tensor that is named there. `shown` are the others,
    `inputs` float inputs first. `varying` are those that depend on the inputs, `rectified` those
    that are never below zero. `outputs` are the graph's: place among `shown` -> name.
    """

    def __init__(self, model: Model, threads: int) -> None:
        names = model.names()
        activations = tappable(model)
        twins, shown = _divide(model, activations)
        copy, tensors = tap(model, shown)
        self.names = [names[index] for index in activations]
        self.twins = {names[i]: (names[twin.source], twin) for i, twin in twins.items()}
        self.varying = {names[index] for index in _varying(model)}
        self.rectified = {names[index] for index in _rectified(model)}
        fed = [index for index in model.inputs if model.type_name(index) == "FLOAT32"]
        self.inputs = len(fed)
        self.shown = [names[index] for index in (*fed, *tensors)]
        self.outputs = self._places(names[index] for index in model.outputs)
        self._content, self._threads = copy.to_bytes(), threads
        self._runner, self._is_delegated = self._load()
        self.batch = _batch_size(model, tensors) if self._is_delegated else 1
        self._batched = self._load_batched() if self.batch > 1 else None
        if self._batched is None:
            self.batch = 1

    def _places(self, outputs: Iterable[str]) -> dict[int, str]:
        sources = {name: self.twins[name][0] if name in self.twins else name for name in outputs}
        return {self.shown.index(s): n for n, s in sources.items() if s in self.shown}

    def _load(self) -> tuple[Runner, bool]:
        try:
            return Runner(self._content, threads=self._threads), True
        except EngineError:  # XNNPACK may refuse so many outputs; the built-in kernels do not
            return self._load_plain(), False

    def _load_plain(self) -> Runner:
        return Runner(self._content, threads=self._threads, delegate=False)

    def _load_batched(self) -> Runner | None:
        """The runner of whole batches, or None where their frames do not come out the same."""
        random = np.random.default_rng(0)
        frames = {
            spec.name: random.normal(size=(self.batch, *spec.shape[1:])).astype(np.float32)
            for spec in self._runner.inputs
        }
        try:
            batched = Runner(self._content, threads=self._threads, batch=self.batch)
            together = batched.run_in_place(frames)
        except EngineError:
            return None
        for frame in range(self.batch):
            alone = {name: values[frame : frame + 1] for name, values in frames.items()}
            if not self._comes_out_the_same(alone, together, frame):
                return None
        return batched

    def _comes_out_the_same(
        self, inputs: Mapping[str, Array], together: list[Array], frame: int
    ) -> bool:
        """True where a frame's values are, bit for bit, those it has in the batch."""
        for many, one in zip(together, self._runner.run_in_place(inputs), strict=True):
            if many.size != self.batch * one.size:
                return False
            part = many.reshape(self.batch, -1)[frame].view(np.uint32)  # -0.0 is not 0.0
            if not np.array_equal(part, one.reshape(-1).view(np.uint32)):
                return False
        return True

    def refusal(self, sample: Sample) -> str:
        """Return why the model cannot take a sample, or nothing."""
        try:
            self._runner.check(sample.inputs)
        except InvalidRequestError as error:
            return error.message
        fed = zip(self.shown, self._fed(sample.inputs), strict=False)
        bad = [name for name, values in fed if values.size and not _is_finite(values)]
        return f"input {bad[0]!r} holds NaN or infinity" if bad else ""

    def _fed(self, inputs: Mapping[str, Array]) -> list[Array]:
        return [inputs[spec.name] for spec in self._runner.inputs if spec.dtype == np.float32]

    def show(self, samples: Sequence[Sample], look: Look) -> list[tuple[Sample, str]]:
        """Run up to `batch` samples that were not refused; `look` sees what they showed.

        Returns those that could not be run, and why. What `look` sees must be let go.
        """
        if self._batched is not None:
            try:
                self._show(samples, self._batched.run_in_place, self.batch, look)
            except EngineError:
                pass  # one of the frames is at fault, and must not spoil the others
            else:
                return []
        failed = []
        for sample in samples:
            try:
                self._show([sample], self._run_alone, 1, look)
            except EngineError as error:
                failed.append((sample, error.message))
        return failed

    def _show(self, samples: Sequence[Sample], run: Run, batch: int, look: Look) -> None:
        inputs = _stack([sample.inputs for sample in samples], batch)
        look(samples, [*self._fed(inputs), *run(inputs)], batch)

    def _run_alone(self, inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return self._runner.run_in_place(inputs)
        except EngineError:
            if not self._is_delegated:
                raise
        plain = self._load_plain()
        values = plain.run_in_place(inputs)  # where this raises too, the sample is at fault
        self._runner, self._is_delegated = plain, False
        return values


def _is_finite(values: Array) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(values.sum())  # half the time of looking at each; huge values overflow it
    return math.isfinite(total) or bool(np.isfinite(values).all())


def _divide(model: Model, activations: Sequence[int]) -> tuple[dict[int, Twin], list[int]]:
    """The activations that need not be tapped, and those that must."""
    twins = find_twins(model, set(activations))
    inputs = set(model.inputs)
    written = [index for index in activations if index not in inputs]
    if not written:
        raise CalibrationError(
            "the model has no float activation; there is nothing to calibrate",
            hint="Drop the float model; one that is quantized already keeps its own scales.",
        )
    shown = [index for index in written if index not in twins]
    return (twins, shown) if shown else ({}, written)  # a graph must have an output


def _varying(model: Model) -> set[int]:
    """Tensors that depend on the inputs; a float16 model also computes its weights."""
    varying = set(model.inputs)
    for operator in model.operators:
        if varying.intersection(indices(operator.inputs)):
            varying.update(indices(operator.outputs))
    return varying


def _rectified(model: Model) -> set[int]:
    """Outputs of a ReLU or ReLU6, alone or fused."""
    kinds = schema.ActivationFunctionType
    fused = {kinds.RELU, kinds.RELU6}
    return {
        output
        for operator in model.operators
        if model.op_name(operator) in RECTIFIERS
        or getattr(operator.builtinOptions, "fusedActivationFunction", None) in fused
        for output in indices(operator.outputs)
    }


def _batch_size(model: Model, tensors: Sequence[int]) -> int:
    """The power of two of frames that may be tried at once; 1 where batches make no sense."""
    if any(tensor.isVariable for tensor in model.tensors) or len(model.proto.subgraphs) > 1:
        return 1  # each frame may depend on the one before
    for index in model.inputs:
        signature = indices(model.tensors[index].shapeSignature)
        is_single = model.shape(index)[:1] == (1,) and -1 not in signature[1:]
        if model.type_name(index) != "FLOAT32" or not is_single:
            return 1
    frame_bytes = 4 * sum(math.prod(model.shape(index)) for index in tensors)
    most = min(MAX_BATCH, BATCH_BYTES // max(1, frame_bytes))
    return 1 << most.bit_length() - 1 if most >= LEAST_BATCH else 1


def _stack(inputs: Sequence[Mapping[str, Array]], batch: int) -> Mapping[str, Array]:
    """The inputs of one run; what a short batch lacks repeats its last frame."""
    if batch == 1:
        return inputs[0]
    filled = [*inputs, *([inputs[-1]] * (batch - len(inputs)))]
    return {name: np.concatenate([frame[name] for frame in filled]) for name in inputs[0]}
