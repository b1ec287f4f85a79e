"""Damaged copies, the sound model, samples -> what each copy would answer, found in a child.

`python -m tests.faults.measured SOUND SAMPLES.npy FOLDER FIRST` prints a JSON line for each file
of the folder from place FIRST on; a copy that kills the child costs its own line only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EdgeqError
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.structure import check_structure
from edgeq.verify import VerifyOptions, verify

REFUSED, SAME, WITHIN, BEYOND, KILLED = (
    "does not load", "same answers", "within the gate", "beyond the gate", "kills its process",
)  # fmt: skip
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Measured:
    """What a copy answers, and how far that is from the sound model's answers."""

    outcome: str
    detail: str = ""


def measure(sound: Path, samples: Path, folder: Path) -> dict[str, Measured]:
    """Return what each file in `folder` would answer, by file name."""
    names, found = sorted(path.name for path in folder.iterdir()), dict[str, Measured]()
    while len(found) < len(names):
        command = [sys.executable, "-m", "tests.faults.measured", str(sound), str(samples)]
        child = subprocess.run(
            [*command, str(folder), str(len(found))],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        for line in child.stdout.splitlines():
            said = json.loads(line)
            found[said["name"]] = Measured(said["outcome"], said["detail"])
        if len(found) < len(names):
            found[names[len(found)]] = Measured(KILLED, f"exit code {child.returncode}")
    return found


def main(arguments: Sequence[str]) -> int:
    sound, samples, folder, first = arguments
    engine = CpuEngine(Path(sound).read_bytes(), "float", threads=1)
    inputs = [{engine.inputs[0].name: values} for values in np.load(samples)]
    expected = [engine.infer(each) for each in inputs]
    for path in sorted(Path(folder).iterdir())[int(first) :]:
        found = _examine(path.read_bytes(), engine, inputs, expected)
        said = {"name": path.name, "outcome": found.outcome, "detail": found.detail}
        print(json.dumps(said), flush=True)
    return 0


def _examine(
    content: bytes,
    sound: CpuEngine,
    inputs: Sequence[Mapping[str, Any]],
    expected: Sequence[Mapping[str, Any]],
) -> Measured:
    try:
        check_structure(Model.from_bytes(content))
        engine = CpuEngine(content, "float", threads=1)
        given = [engine.infer(each) for each in inputs]
        if all(_equal(a, b) for a, b in zip(expected, given, strict=True)):
            return Measured(SAME)
        samples = [Sample(str(number), each) for number, each in enumerate(inputs)]
        verdict = verify(sound.infer, engine, samples, VerifyOptions())
    except EdgeqError as error:
        return Measured(REFUSED, error.message)
    except KeyError as error:  # an output has another name
        return Measured(BEYOND, f"no output {error}")
    agreement = f", agreement {verdict.agreement:.3f}" if verdict.agreement is not None else ""
    detail = f"SQNR {verdict.sqnr_db:.1f} dB{agreement}"
    return Measured(WITHIN if verdict.passed else BEYOND, detail)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(values, other[name]) for name, values in one.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
