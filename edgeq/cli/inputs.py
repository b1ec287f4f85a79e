"""What build and calibrate read: a model, its sidecar, and a folder of samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from edgeq.calibrate.methods import METHODS
from edgeq.cli.arguments import add_json, count
from edgeq.cli.output import printable
from edgeq.config import Sidecar, read_sidecar
from edgeq.engines.table import load_float
from edgeq.errors import SampleError, UsageError
from edgeq.samples.decode import load_folder
from edgeq.samples.store import Sample

METHOD_CHOICES = ("auto", *METHODS)
PROGRESS_CHOICES = ("bar", "json", "none")
SKIPPED_SHOWN = 5


def add_model_and_samples(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, --samples, --method, --threads, --progress and --json."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="float .tflite")
    parser.add_argument(
        "--samples", type=Path, required=True, metavar="DIR", help=".npy, .npz, .png, .jpg"
    )
    parser.add_argument(
        "--method", choices=METHOD_CHOICES,
        help="how ranges are chosen; auto: build measures which is best, calibrate takes entropy",
    )  # fmt: skip
    parser.add_argument("--threads", type=count, help="CPU threads")
    parser.add_argument("--progress", choices=PROGRESS_CHOICES, help="how to show progress")
    add_json(parser)


class SampleFolder:
    """A folder of samples, read anew at each call; remembers which files were of no use."""

    def __init__(self, content: bytes, directory: Path, sidecar: Sidecar) -> None:
        if not directory.is_dir():
            raise UsageError(
                f"the samples {directory} are not a folder", hint="Give a folder of samples."
            )
        engine = load_float(content)
        self._inputs = engine.inputs
        engine.close()
        self._directory = directory
        self._preprocessing = sidecar.preprocessing.options
        self._skipped: dict[str, SampleError] = {}  # by message: every pass meets them again

    def __call__(self) -> Iterator[Sample]:
        """Yield the samples of every file that can be used."""
        return load_folder(
            self._directory, self._inputs, self._preprocessing, on_bad=self._remember
        )

    def _remember(self, error: SampleError) -> None:
        self._skipped[error.message] = error

    def warn_skipped(self) -> None:
        """Name the files that could not be used."""
        for error in list(self._skipped.values())[:SKIPPED_SHOWN]:
            print(f"edgeq: sample skipped: {printable(error.message)}", file=sys.stderr)
        if len(self._skipped) > SKIPPED_SHOWN:
            more = len(self._skipped) - SKIPPED_SHOWN
            print(f"edgeq: {more} more were skipped", file=sys.stderr)


def sidecar_of(model: Path) -> Sidecar:
    """Return what MODEL.yaml beside the model says, or the defaults; errors as `read_sidecar`."""
    path = model.with_suffix(".yaml")
    return read_sidecar(path) if path.is_file() else Sidecar()
