"""A version and its engine -> what it must answer to every frame, from its bundle on the disk.

Computed once, by the interpreter alone over the bundle's own model, when the version first answers;
from then on every answer must be equal to it to the bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Bundle
from edgeq.errors import EdgeqError
from tools.soaking.journal import Journal
from tools.soaking.material import Material, frames
from tools.soaking.plan import MODELS

Array = npt.NDArray[Any]
Key = tuple[str, str, str]  # model, version, engine


class Reference:
    """Right answers of every version that answered."""

    def __init__(self, state: Path, material: Material, journal: Journal) -> None:
        self._state, self._material, self._journal = state, material, journal
        self._lock = threading.Lock()
        self._known: dict[Key, dict[str, Array] | None] = {}
        self._digests: dict[tuple[str, str], str] = {}
        self.frames = {name: frames(name) for name in MODELS}

    @property
    def versions(self) -> int:
        return len(self._digests)

    def check(self, key: Key, kind: str, index: int, output: Array, *, is_text: bool) -> None:
        """Hold an answer to what its version must say; JSON carries floats as text."""
        expected = self._expected(key)
        if expected is None:
            return  # a violation already
        right = expected[kind][index]
        is_right = output.shape == right.shape and (
            np.allclose(output, right, rtol=1e-6, atol=0) if is_text else (output == right).all()
        )
        if not is_right:
            evidence = f"{key} {kind} frame {index}: {output[:4]} instead of {right[:4]}"
            self._journal.violate("a wrong answer", evidence)

    def _expected(self, key: Key) -> dict[str, Array] | None:
        with self._lock:
            if key not in self._known:
                try:
                    self._known[key] = self._compute(*key)
                except (EdgeqError, OSError) as error:
                    self._journal.violate("an answer by a version without a bundle", (key, error))
                    self._known[key] = None
            return self._known[key]

    def _compute(self, model: str, version: str, engine: str) -> dict[str, Array] | None:
        bundle = Bundle.open(self._state / "bundles" / model / version)
        manifest = bundle.manifest
        if manifest.engine != engine:
            evidence = f"{model} {version}: {engine}, its bundle {manifest.engine}"
            self._journal.violate("an engine that is not the version's", evidence)
            return None
        if manifest.model_sha256 not in self._material.good:
            evidence = f"{model} {version}: {manifest.model_sha256}"
            self._journal.violate("a model served that nobody dropped as good", evidence)
        self._digests[model, version] = manifest.model_sha256
        answer = answering(bundle.read("float.tflite" if engine == "float" else "int8.tflite"))
        given = self.frames[model].items()
        return {kind: np.stack([answer(frame) for frame in frames]) for kind, frames in given}


def answering(content: bytes) -> Callable[[Array], Array]:
    """Return what answers as the model does: LiteRT itself, with nothing of edgeq around it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    given, taken = (
        details[0]["index"]
        for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def answer(frame: Array) -> Array:
        interpreter.set_tensor(given, frame)
        interpreter.invoke()
        output: Array = interpreter.get_tensor(taken)
        return output.ravel()

    return answer
