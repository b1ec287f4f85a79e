"""The model that MLServer serves: the identity or LiteRT; slowed for swaps."""

from __future__ import annotations

import asyncio
from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Runtime(MLModel):  # type: ignore[misc]
    """Numpy arrays through LiteRT or back as they are, by MLServer's codecs.

    `parameters.extra`: `model` (a .tflite file), `echo` (no codecs either), `load_s`, `infer_s`,
    `fails` (load raises).
    """

    async def load(self) -> bool:
        extra: dict[str, Any] = self.settings.parameters.extra or {}
        self._output_name, self._infer_s = extra["output"], extra.get("infer_s", 0.0)
        self._is_echo = extra.get("echo", False)
        # Asleep, not busy: the loop goes on serving, which is the kindest that a load can be.
        await asyncio.sleep(extra.get("load_s", 0.0))
        if extra.get("fails"):
            raise RuntimeError("this version does not load")
        self._run = make_run(extra["model"]) if extra.get("model") else lambda v: v
        self._is_loaded = True
        return True

    async def unload(self) -> bool:
        self._is_loaded, self._run = False, None  # frees what it holds, as runtimes do
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if self._infer_s:
            await asyncio.sleep(self._infer_s)
            if not self._is_loaded:
                raise RuntimeError("the model was unloaded while this request was inside")
        if self._is_echo:  # not even a numpy array is made: no model could do with less
            output = ResponseOutput(name=self._output_name, shape=given.shape,
                                    datatype=given.datatype, data=given.data)  # fmt: skip
        else:
            values = self._run(NumpyCodec.decode_input(given))
            output = NumpyCodec.encode_output(self._output_name, values)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])


def make_run(model: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(values: Any) -> Any:
        interpreter.set_tensor(given["index"], values.astype(given["dtype"], copy=False))
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])

    return run
