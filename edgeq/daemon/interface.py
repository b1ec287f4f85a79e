"""A model's inputs and outputs -> what a change of them breaks: clients, and samples of before.

A sample fits one interface only, so the samples of each live in a folder of their own; the one of
the version that serves is in the sample store's place. Its name is written beside the samples,
and moves with them, so that a crash between two renames is mended by the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeq import files
from edgeq.daemon.deployment import Context, Deployment, open_store
from edgeq.samples.store import SampleStore
from edgeq.swap import LiveInfo
from edgeq.tflite.runtime import TensorSpec

MARK = "interface.json"
SET_ASIDE_KEPT = 3  # of each model: folders of samples of other inputs


def described(specs: Iterable[TensorSpec]) -> str:
    """Return names, types and shapes in words: two that are equal have the same."""
    return ", ".join(f"{spec.name!r} {spec.dtype} {list(spec.shape)}" for spec in specs)


def interface_change(old: LiveInfo, new: LiveInfo) -> str:
    """Return what clients must know of the new version, "" where all is as it was."""
    pairs = (("inputs", old.inputs, new.inputs), ("outputs", old.outputs, new.outputs))
    changes = [
        f"its {what} are {described(now)}, not {described(before)}"
        for what, before, now in pairs
        if described(before) != described(now)
    ]
    return "; ".join(changes)


def fits(inputs: Mapping[str, npt.NDArray[Any]], specs: tuple[TensorSpec, ...]) -> bool:
    """Say whether a sample is one of these inputs; a free extent takes any."""
    return len(inputs) == len(specs) and all(
        spec.name in inputs and _fits(inputs[spec.name], spec) for spec in specs
    )


def _fits(values: npt.NDArray[Any], spec: TensorSpec) -> bool:
    shapes = zip(spec.shape, values.shape, strict=False)
    is_shape = len(spec.shape) == values.ndim and all(e < 0 or e == given for e, given in shapes)
    return is_shape and values.dtype == spec.dtype


def keep_samples_that_fit(context: Context, deployment: Deployment, live: LiveInfo) -> str:
    """Set samples of other inputs aside and bring those of these back; returns what was done.

    Raises:
        OSError: the disk refused it; the next start tries again.
    """
    store, inputs = deployment.store, described(live.inputs)
    mark = _mark_of(store, live)
    aside = context.paths.set_aside(deployment.name)
    kept = aside / _digest(inputs)
    if mark == inputs and (len(store) or not kept.is_dir()):
        if not (store.directory / MARK).exists():
            _write_mark(store.directory, mark)
        return ""
    said = [_set_aside(store, aside / _digest(mark))] if len(store) else []
    files.remove_tree(store.directory)
    if kept.is_dir():
        os.rename(kept, store.directory)
    deployment.store = open_store(context, deployment.name)
    _write_mark(deployment.store.directory, inputs)
    if len(deployment.store):
        said.append(f"{len(deployment.store)} samples of its inputs were brought back")
    if removed := _trim(aside, aside / _digest(mark)):
        said.append(f"{removed} folders of samples set aside before were removed")
    return "; ".join(said)


def _mark_of(store: SampleStore, live: LiveInfo) -> str:
    """Return the inputs that the stored samples are of; a folder without a mark is looked into."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return str(json.loads((store.directory / MARK).read_bytes())["inputs"])
    is_other = any(not fits(sample.inputs, live.inputs) for sample in store.recent(1))
    return "unknown" if is_other else described(live.inputs)


def _write_mark(folder: Path, inputs: str) -> None:
    files.write_atomic(folder / MARK, json.dumps({"inputs": inputs}).encode())


def _set_aside(store: SampleStore, target: Path) -> str:
    store.flush()
    files.make_directory(target.parent)
    files.remove_tree(target)  # never there, but for a backup that was copied back
    os.rename(store.directory, target)
    return f"{len(store)} samples of other inputs were set aside in {target}"


def _digest(inputs: str) -> str:
    return files.sha256_bytes(inputs.encode())[:16]


def _trim(aside: Path, latest: Path) -> int:
    """Remove the oldest, but never the latest: by a clock that was set back it is the oldest."""
    if not aside.is_dir():
        return 0
    folders = sorted(
        aside.iterdir(), key=lambda path: (path == latest, path.stat().st_ctime_ns), reverse=True
    )
    for folder in folders[SET_ASIDE_KEPT:]:
        files.remove_tree(folder)
    return len(folders[SET_ASIDE_KEPT:])
