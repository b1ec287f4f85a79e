"""A version and its engine -> what it must answer to every frame, from its bundle on the disk.

Computed once, by the same interpreter over the bundle's own model, when the version first answers;
from then on every answer must be equal to it to the bit.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Bundle
from edgeq.engines.table import load_cpu, load_float
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
        if engine == "float":
            loaded = load_float(bundle.read("float.tflite"))
        else:
            loaded = load_cpu(bundle.read("int8.tflite"), 1)
        tensor = loaded.inputs[0].name
        try:
            return {
                kind: np.stack([
                    next(iter(loaded.infer({tensor: frame}).values())).ravel() for frame in given
                ])
                for kind, given in self.frames[model].items()
            }  # fmt: skip
        finally:
            loaded.close()
