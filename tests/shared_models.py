"""The float models of ../shared with calibration inputs as each was trained to take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeq.samples.store import Sample, sample_id
from edgeq.tflite.runtime import Runner

Array = npt.NDArray[Any]

PREPROCESSING: dict[str, Callable[[Array], Array]] = {
    "raw255": lambda x: x,
    "01": lambda x: x / 255,
    "pm1": lambda x: x / 127.5 - 1,
    "m127d128": lambda x: (x - 127) / 128,
    "feat": lambda x: x,
}


def shared_tasks(shared: Path) -> dict[str, dict[str, Any]]:
    """The tasks whose model is a float .tflite, by id."""
    tasks = json.loads((shared / "data/tasks.json").read_bytes())
    return {task["id"]: task for task in tasks if task["model"].endswith(".tflite")}


def calibration_samples(shared: Path, task: dict[str, Any], most: int) -> list[Sample]:
    """Up to `most` samples of the task's calibration split."""
    content = (shared / "data" / task["model"]).read_bytes()
    name = Runner(content).inputs[0].name
    prepare = PREPROCESSING[task["pre"]]
    samples = []
    for values, _ in zip(_values(shared / "data", task), range(most), strict=False):
        inputs = {name: prepare(values.astype(np.float32))[np.newaxis].astype(np.float32)}
        samples.append(Sample(sample_id(inputs), inputs))
    return samples


def _values(data: Path, task: dict[str, Any]) -> Iterator[Array]:
    folder = data / task["data"]
    if not (folder / "calib.npz").is_file():
        for path in sorted((folder / "calib").iterdir()):
            with Image.open(path) as image:
                yield np.asarray(image.convert("RGB").resize(task["size"], Image.BILINEAR))
        return
    with np.load(folder / "calib.npz") as arrays:
        for values in arrays["x"]:
            if task["kind"] != "anomaly":
                yield values
            else:  # a clip of 200 x 128; a sample is 5 frames of it
                yield np.concatenate([values[k + 50] for k in range(5)])
