"""A folder with tasks.json and evalkit.py -> Cases with their own preprocessing and metric.

evalkit computes the metric. For its noise the same metric is needed on any choice of images:
`_parts` takes it apart, and is not used where the whole does not come out as evalkit's.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.calibration_bench.cases import Case
from tools.calibration_bench.scoring import Run, Score, top1

Array = npt.NDArray[Any]
OfParts = Callable[[Array], float]

VOC_CLASSES = 21
LEAST_OVERLAP = 0.5


def load_evalkit(folder: Path) -> ModuleType:
    """Import the folder's own evalkit.py."""
    spec = importlib.util.spec_from_file_location("evalkit", folder / "evalkit.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} holds no evalkit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases_of_tasks(tasks: Path, only: Sequence[str], folder: Path) -> list[Case]:
    """Return the cases of the float .tflite models in tasks.json; their calib split calibrates."""
    kit, cases = load_evalkit(tasks), []
    for task in json.loads((tasks / "tasks.json").read_text()):
        name = task["id"]
        if not task["model"].endswith(".tflite") or (only and name not in only):
            continue
        samples = folder / f"{name}.samples"
        samples.mkdir()
        np.save(samples / "calib.npy", np.concatenate(list(kit.calibration_inputs(task))))
        cases.append(Case(name, (tasks / task["model"]).resolve(), samples, Task(kit, task)))
    if not cases:
        raise SystemExit(f"{tasks} holds no float .tflite task of the names {list(only)}")
    return cases


@dataclass(frozen=True)
class Task:
    """One labelled task of an evalkit."""

    kit: ModuleType
    task: dict[str, Any]

    @property
    def has_classes(self) -> bool:
        """True for classification; an autoencoder's output is one vector too."""
        return bool(self.task["kind"] == "top1")

    def score(self, run: Run) -> Score:
        """Score with evalkit's own metric."""
        classes: list[Array] = []  # of segmentation, for evalkit keeps no answers of it

        def answer(x: Array) -> list[Array]:
            outputs = run([x])
            if self.task["kind"] == "voc":
                classes.append(outputs[0][0].argmax(-1).astype(np.uint8))
            return outputs

        result, answers = self.kit.evaluate(self.task, answer)
        score = Score(result["metric"], result["value"], result["n"])
        of_parts = self._parts(classes or answers)
        if of_parts is not None and math.isclose(
            of_parts(np.arange(score.parts)), score.value, abs_tol=1e-6
        ):
            score = replace(score, of_parts=of_parts)
        return score

    def _parts(self, answers: Any) -> OfParts | None:
        kind = self.task["kind"]
        if kind == "top1" and "label_map" not in self.task:
            return top1(self.kit.labels(self.task, "eval"), answers.argmax(1)).of_parts
        if kind == "anomaly":
            return self._anomaly(answers)
        if kind == "faces":
            return self._faces(answers)
        return self._voc(answers) if kind == "voc" else None

    def _anomaly(self, scores: Array) -> OfParts:
        """AUC of each machine id, then the mean."""
        with np.load(self.folder / "eval.npz") as archive:
            labels = archive["y"].astype(int)
            ids = np.array([name.split("_")[2] for name in archive["name"]])
        known = sorted(set(ids))

        def mean_auc(chosen: Array) -> float:
            kept = [chosen[ids[chosen] == known_id] for known_id in known]
            with np.errstate(invalid="ignore", divide="ignore"):
                return float(np.mean([self.kit.auc(labels[k], scores[k]) for k in kept]))

        return mean_auc

    def _faces(self, detections: Sequence[tuple[Array, Array]]) -> OfParts:
        """Average precision; which detection is right is decided within its image."""
        least = self.task.get("min_px", 8)
        images = []
        for entry, (boxes, scores) in zip(self._entries(), detections, strict=True):
            truth = np.array(entry["boxes"], float).reshape(-1, 4)
            pixels = np.minimum(
                (truth[:, 2] - truth[:, 0]) * 320, (truth[:, 3] - truth[:, 1]) * 240
            )
            ignored = (pixels < least) | (np.array(entry["invalid"], int).reshape(-1) == 1)
            overlaps = self.kit.iou(boxes, truth) if len(truth) and len(boxes) else None
            images.append(_matched(scores, overlaps, ignored))
        return lambda chosen: _average_precision([images[i] for i in chosen])

    def _voc(self, classes: Sequence[Array]) -> OfParts:
        """Mean IoU over the classes that are there; one confusion matrix for each image."""
        matrices = np.zeros((len(classes), VOC_CLASSES, VOC_CLASSES), np.int64)
        for matrix, entry, answer in zip(matrices, self._entries(), classes, strict=True):
            with Image.open(self.folder / "eval" / entry["mask"]) as mask:
                pairs = np.asarray(mask).ravel().astype(int) * VOC_CLASSES + answer.ravel()
            matrix += np.bincount(pairs, minlength=VOC_CLASSES**2).reshape(matrix.shape)

        def mean_iou(chosen: Array) -> float:
            total = matrices[chosen].sum(0)
            hit, there = np.diag(total), total.sum(1)
            return float((hit / (total.sum(0) + there - hit + 1e-9))[there > 0].mean())

        return mean_iou

    @property
    def folder(self) -> Path:
        """Where the task's data lie."""
        return Path(self.kit.ROOT, str(self.task["data"]))

    def _entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads((self.folder / "eval.json").read_text())
        return entries


@dataclass(frozen=True)
class _Matched:
    scores: Array
    right: Array
    faces: int


def _matched(scores: Array, overlaps: Array | None, ignored: Array) -> _Matched:
    """Give each detection, best first, the free face it overlaps most; as evalkit.ap does."""
    used, kept, right = np.zeros(len(ignored), bool), [], []
    for detection in np.argsort(-scores, kind="stable"):
        hit = False
        if overlaps is not None:
            own = overlaps[detection]
            free = np.where(ignored | used, -1, own)
            hit = bool(free.max() >= LEAST_OVERLAP)
            if hit:
                used[int(free.argmax())] = True
            elif np.where(ignored, own, -1).max() >= LEAST_OVERLAP:
                continue
        kept.append(scores[detection])
        right.append(hit)
    return _Matched(np.array(kept), np.array(right, int), int((~ignored).sum()))


def _average_precision(images: Sequence[_Matched]) -> float:
    scores = np.concatenate([image.scores for image in images])
    faces = sum(image.faces for image in images)
    if not faces or not scores.size:
        return 0.0 if faces else math.nan
    order = np.argsort(-scores, kind="stable")
    right = np.concatenate([image.right for image in images])[order]
    found = np.cumsum(right)
    recall = np.concatenate([[0], found / faces])
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * best))
