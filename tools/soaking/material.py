"""Models that are dropped, each another file; damaged ones; the frames that are sent."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.model import Model
from tools.serve_bench.identity import identity_model, with_note
from tools.soaking.plan import PLAIN

Array = npt.NDArray[Any]
DATA = Path(__file__).resolve().parents[2] / "tests/data"
FILES = {"digits": "digits.tflite", "letters": "digits_v2.tflite"}
PLAIN_SHAPE = (1, 24, 24, 3)
FRAMES = 160  # of each kind
PLAIN_FRAMES = 32
BRIGHTER = 3.0  # beyond the ranges of calibration: what drifts


class Material:
    """Everything that is dropped and sent; remembers the digest of each good model it made."""

    def __init__(self) -> None:
        self._base = {name: (DATA / file).read_bytes() for name, file in FILES.items()}
        self._plain = identity_model(PLAIN_SHAPE)
        self.good: set[str] = set()
        self.latest: dict[str, bytes] = {}

    def base(self, name: str) -> bytes:
        """Return the model that a name begins with."""
        return self._keep(name, self._plain if name == PLAIN else self._base[name])

    def variant(self, name: str, seed: int) -> bytes:
        """Return a new version: weights moved by about a thousandth, or another description."""
        if name == PLAIN:
            return self._keep(name, with_note(self._plain, f"version {seed}"))
        model, draw = Model.from_bytes(self._base[name]), np.random.default_rng(seed)
        for index in range(len(model.tensors)):
            values = model.constant(index)
            if values is not None and values.dtype == np.float32 and values.size > 16:
                moved = values * (1 + draw.normal(0, 1e-3, values.shape)).astype(np.float32)
                model.tensors[index].buffer = model.add_buffer(moved)
        return self._keep(name, model.to_bytes())

    def _keep(self, name: str, content: bytes) -> bytes:
        self.good.add(hashlib.sha256(content).hexdigest())
        self.latest[name] = content
        return content

    def damaged(self, name: str, kind: str, draw: random.Random) -> bytes:
        """Return bytes that must never serve."""
        good = self.latest[name]
        if kind == "truncated drop":
            return good[: draw.randrange(100, len(good) * 9 // 10)]
        if kind == "random drop":
            return draw.randbytes(draw.randrange(1, 40_000))
        if kind == "empty drop":
            return b""
        content = bytearray(good)
        if kind == "flipped drop":  # the root table's link to its vtable
            content[int.from_bytes(good[:4], "little")] ^= 0xFF
        else:  # of a weight, perhaps: only a digest tells
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content)


def frames(name: str) -> dict[str, list[Array]]:
    """Return what is sent to a model, by kind: "usual" and "bright"."""
    if name == PLAIN:
        draw = np.random.default_rng(0)
        plain = [draw.integers(0, 256, PLAIN_SHAPE, np.uint8) for _ in range(PLAIN_FRAMES)]
        return {"usual": plain, "bright": plain}
    with np.load(DATA / "digits_samples.npz") as kept:
        images = kept["x"][:FRAMES].astype(np.float32)
    usual = [image[None] for image in images]
    return {"usual": usual, "bright": [frame * np.float32(BRIGHTER) for frame in usual]}
