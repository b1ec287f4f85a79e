"""A .tflite file + inputs -> outputs: the only importer of the interpreters.

LiteRT (`ai_edge_litert`) wherever it has a wheel; `tflite_runtime`, which the same code drives,
where it has none. Interpreters are not thread-safe: one `Runner` per thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.tflite.names import unique

Array = npt.NDArray[Any]

VIEWED_BYTES = 256  # inputs from which on a view pays


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as the outside sees it; -1 in `shape` is a free extent."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """True where a value of `shape` fits."""
        return shape == self.shape or (
            len(shape) == len(self.shape)
            and all(own in (-1, given) for own, given in zip(self.shape, shape, strict=True))
        )


@dataclass(frozen=True)
class RuntimeVersion:
    """Which interpreter is in use."""

    package: str
    version: str

    @property
    def is_fallback(self) -> bool:
        """True for tflite-runtime, which runs INT8 without XNNPACK and crashes on damaged files."""
        return self.package != "ai-edge-litert"

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@functools.lru_cache(maxsize=1)
def _interpreter_module() -> tuple[ModuleType, str]:
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        try:
            from tflite_runtime import interpreter
        except ImportError as error:
            raise EngineError(
                "no TFLite runtime is installed; edgeq needs ai-edge-litert or tflite-runtime",
                hint="pip install ai-edge-litert (CPython 3.10 to 3.13), or edgeq[tflite].",
            ) from error
        return interpreter, "tflite-runtime"
    return interpreter, "ai-edge-litert"


def runtime_version() -> RuntimeVersion:
    """Return the interpreter in use.

    Raises:
        EngineError: none is installed.
    """
    package = _interpreter_module()[1]
    return RuntimeVersion(package, metadata.version(package))


class Runner:
    """One interpreter over one model.

    Args:
        content: the .tflite file's bytes; kept alive as long as the interpreter.
        threads: how many CPU threads one invocation may use.
        delegate: XNNPACK where the runtime has it; False takes the built-in kernels,
            the reference that XNNPACK is checked against.
        batch: the first extent that every input is given; None leaves the file's own.

    Raises:
        EngineError: the runtime refuses the model.
    """

    def __init__(
        self, content: bytes, *, threads: int = 1, delegate: bool = True, batch: int | None = None
    ) -> None:
        module, _ = _interpreter_module()
        resolver = module.OpResolverType
        kind = resolver.AUTO if delegate else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._content = content
        try:
            self._interpreter = module.Interpreter(
                model_content=content, num_threads=threads, experimental_op_resolver_type=kind
            )
            if batch is not None:
                self._set_batch(batch)
            self._interpreter.allocate_tensors()
            inputs = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:  # ValueError also for names not in UTF-8
            raise EngineError(
                f"the runtime refuses the model: {_first_line(error)}",
                hint="Run `edgeq doctor` to see the runtime's version; newer ops need a newer one.",
            ) from error
        self.inputs, self.outputs = _specs(inputs), _specs(outputs)
        self._input_indices = [detail["index"] for detail in inputs]
        self._output_indices = [detail["index"] for detail in outputs]
        self._input_shapes = [tuple(map(int, detail["shape"])) for detail in inputs]

    def _set_batch(self, batch: int) -> None:
        for detail in self._interpreter.get_input_details():
            shape = [batch, *map(int, detail["shape"][1:])]
            self._interpreter.resize_tensor_input(detail["index"], shape)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; returns copies, keyed by output name.

        Raises:
            InvalidRequestError: an input is missing, unknown, or has the wrong shape or type.
            EngineError: the runtime failed.
        """
        results = self._invoke(inputs, self._interpreter.get_tensor)
        return {spec.name: value for spec, value in zip(self.outputs, results, strict=True)}

    def run_in_place(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Run once; returns the outputs, in order, as views into the interpreter.

        They must be let go before the next run, which fails while one is alive. Measured on
        DeepLab with all 70 activations as outputs: 17.4 instead of 22.5 ms.

        Raises:
            InvalidRequestError, EngineError: as `run`.
        """
        return self._invoke(inputs, lambda index: self._interpreter.tensor(index)())

    def _invoke(self, inputs: Mapping[str, Array], read: Callable[[int], Array]) -> list[Array]:
        values = ordered_inputs(self.inputs, inputs)
        try:
            self._resize(values)
            for index, value in zip(self._input_indices, values, strict=True):
                self._set(index, value)
            self._interpreter.reset_all_variables()  # an LSTM's state; 0.5 us where there is none
            self._interpreter.invoke()
            return [read(index) for index in self._output_indices]
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"inference failed: {_first_line(error)}") from error

    def _set(self, index: int, value: Array) -> None:
        """Write an input into the interpreter's memory.

        `set_tensor` copies twice what came over the wire at an odd place: 110 kB in 5 to 7 us, and
        up to 46 by how the copies lie; into the view they take 3.
        """
        if value.nbytes >= VIEWED_BYTES and value.dtype.kind in "fiu":
            self._interpreter.tensor(index)()[...] = value
        else:  # a scalar's or an empty tensor's view is none, a string's is not its text
            self._interpreter.set_tensor(index, value)

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Look at the inputs as `run` would.

        Raises:
            InvalidRequestError: an input is missing, unknown, or has the wrong shape or type.
        """
        ordered_inputs(self.inputs, inputs)

    def _resize(self, values: list[Array]) -> None:
        """Give free extents those of the values; allocation costs nothing where they stay."""
        shapes = [value.shape for value in values]
        if shapes == self._input_shapes:
            return
        self._input_shapes = []  # until the interpreter holds the new ones, it holds none
        for index, shape in zip(self._input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._input_shapes = shapes

    def close(self) -> None:
        """Free the interpreter; the runner must not be used afterwards."""
        self._interpreter = None


def ordered_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> list[Array]:
    """Return the inputs in the order of the specs, contiguous; maybe unaligned.

    Raises:
        InvalidRequestError: an input is missing, unknown, or has the wrong shape or type.
    """
    known = {spec.name for spec in specs}
    if unknown := set(inputs) - known:
        raise InvalidRequestError(
            f"input {sorted(unknown)[0]!r} is unknown; the model takes {sorted(known)}"
        )
    return [_checked(spec, inputs) for spec in specs]


def _checked(spec: TensorSpec, inputs: Mapping[str, Array]) -> Array:
    value = inputs.get(spec.name)
    if value is None:
        raise InvalidRequestError(f"input {spec.name!r} is missing")
    if not spec.accepts(value.shape):
        raise InvalidRequestError(
            f"input {spec.name!r} has shape {list(value.shape)}; the model takes {list(spec.shape)}"
        )
    if value.dtype != spec.dtype:
        raise InvalidRequestError(
            f"input {spec.name!r} has type {value.dtype}; the model takes {spec.dtype}"
        )
    return np.asarray(value, order="C")  # ascontiguousarray would make a scalar a vector


def _specs(details: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    names = unique([detail["name"] for detail in details])
    return tuple(
        TensorSpec(name, _shape(detail), np.dtype(detail["dtype"]))
        for name, detail in zip(names, details, strict=True)
    )


def _shape(detail: dict[str, Any]) -> tuple[int, ...]:
    """Free extents stay -1, but for the first: the batch is what the interpreter allocated."""
    signature = detail.get("shape_signature", ())
    return tuple(
        -1 if axis and axis < len(signature) and signature[axis] == -1 else int(extent)
        for axis, extent in enumerate(detail["shape"])
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
