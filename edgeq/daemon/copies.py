"""An admitted drop, and the models that are known here -> is it one of them, damaged on its way?

A damaged float model is its own reference: calibration, the gate and the golden answers all rest
on it. Only a digest or a signature proves a file; without one, this knows a bad copy of what the
box has already by its bytes, and an update that answers with NaN by its answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Bundle, Golden
from edgeq.config import Sidecar
from edgeq.daemon.deployment import Context
from edgeq.engines.table import load_cpu
from edgeq.errors import DropError, EdgeqError
from edgeq.intake.admit import Admitted
from edgeq.intake.damage import find_damage
from edgeq.registry import Version

STAGE = "copy check"


def check_copy(context: Context, drop: Admitted, sidecar: Sidecar) -> None:
    """Refuse a drop that nothing proves, and that looks damaged.

    Args:
        context: the daemon's registry and folders.
        drop: what was admitted.
        sidecar: whose `sha256`, like a signature, proves the file.

    Raises:
        DropError: stage 'copy check'.
    """
    if drop.signed is not None or sidecar.sha256:
        return
    for version in _references(context):
        path = context.paths.bundle(version.name, version.version) / "float.tflite"
        if damage := _damage(path, drop):
            raise DropError(
                f"it is version {version.version} of {version.name!r}, but for {damage}: "
                "a copy that was damaged on its way",
                stage=STAGE,
                # Without the digest, for another sidecar lets the same bytes in.
                hint="Copy it again; if it is meant so, write its sha256 into the sidecar.",
            )
    _check_finite(context, drop)


def _references(context: Context) -> Iterator[Version]:
    """Yield what serves and what served before, of every model: a copy may have another name."""
    for name in context.registry.names():
        for version in (context.registry.live(name), context.registry.previous(name)):
            if version is not None:
                yield version


def _damage(path: Path, drop: Admitted) -> str:
    try:
        if path.stat().st_size != drop.bytes:
            return ""
        known, given = (np.memmap(each, np.uint8, "r") for each in (path, drop.path))
        return find_damage(known, given)
    except (OSError, ValueError, EdgeqError):  # the reference was removed, or is damaged itself
        return ""


def _check_finite(context: Context, drop: Admitted) -> None:
    """Refuse an update that answers with NaN or infinity what the live version does not."""
    live = context.registry.live(drop.name)
    if drop.probe.finite or live is None:
        return
    golden = _golden(context, live)
    if golden is None or not all(map(_is_finite, golden.outputs)):
        return
    if not _answers_with_numbers(drop, golden):
        raise DropError(
            f"it gives NaN or infinity for inputs that version {live.version} answers with numbers",
            stage=STAGE,
            hint="Export the model again; if it is meant so, write its sha256 into the sidecar.",
        )


def _answers_with_numbers(drop: Admitted, golden: Golden) -> bool:
    """Say whether it does; True where it cannot be asked, which is another check's matter."""
    try:
        with contextlib.closing(load_cpu(drop.path.read_bytes(), threads=1)) as engine:
            return all(_is_finite(engine.infer(given)) for given in golden.inputs)
    except EdgeqError:  # it has other inputs, say
        return True


def _golden(context: Context, live: Version) -> Golden | None:
    try:
        bundle = Bundle.open(context.paths.bundle(live.name, live.version))
        return Golden.from_npz(bundle.read("golden.npz"))
    except EdgeqError:  # what is damaged here is not the drop's fault
        return None


def _is_finite(outputs: Mapping[str, npt.NDArray[Any]]) -> bool:
    return all(np.isfinite(values).all() for values in outputs.values() if values.dtype.kind == "f")
