"""Stored samples -> what a contact sheet shows of them: pictures, and what is known of each."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeq.errors import SampleError
from edgeq.samples import npz
from edgeq.samples.image import Preprocessing
from edgeq.samples.naming import parse_file_name, stratum_in_words
from edgeq.samples.reservoir import SampleRow
from edgeq.samples.store import SampleStore, is_held_out
from edgeq.samples.thumbnail import Display, Form, Thumbnail, display_of, extent_of, form_of

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]

MOST = 400  # samples of one sheet: some 5 kB each
USUAL = 60
HINT = "Give a folder below samples/ in the daemon's state folder."


def sheet_of_store(
    store: SampleStore, preprocessing: Preprocessing, held_out_ratio: float, limit: int
) -> dict[str, Any]:
    """Return the newest samples of a store as JSON; `limit` counts them."""
    return _sheet(store.directory, store.rows(), preprocessing, held_out_ratio, limit)


def sheet_of_folder(
    directory: Path, preprocessing: Preprocessing, held_out_ratio: float, limit: int
) -> dict[str, Any]:
    """Return the newest samples of a store's folder, which is left as it is.

    Raises:
        SampleError: the folder cannot be read, or no sample of a store is in it.
    """
    try:
        rows = list(_rows(directory))
    except OSError as error:
        raise SampleError(
            f"the samples folder {directory} cannot be read: {error.strerror}", hint=HINT
        ) from error
    if not rows:
        raise SampleError(
            f"{directory} holds no sample of a store; captured-*.npz or added-*.npz are expected",
            hint=HINT,
        )
    return _sheet(directory, rows, preprocessing, held_out_ratio, limit)


def _rows(directory: Path) -> Iterator[SampleRow]:
    for path in directory.iterdir():
        if (stored := parse_file_name(path.name)) and path.is_file():
            status = path.stat()
            size, time = status.st_size, status.st_mtime
            yield SampleRow(stored.id, size, time, stored.origin, stratum=stored.stratum)


def _sheet(
    directory: Path,
    rows: Sequence[SampleRow],
    preprocessing: Preprocessing,
    held_out_ratio: float,
    limit: int,
) -> dict[str, Any]:
    """Read the samples twice, one at a time: all at once they may be hundreds of megabytes."""
    newest = sorted(rows, key=lambda row: (-row.time, row.id))[: min(limit, MOST)]
    displays = _displays(_read_each(directory, newest), preprocessing)
    return {
        "total": len(rows),
        "inputs": {name: display.words for (name, _), display in displays.items()},
        "samples": [
            _entry(row, inputs, displays, preprocessing, held_out_ratio)
            for row, inputs in _read_each(directory, newest)
        ],
    }


def _read_each(directory: Path, rows: Sequence[SampleRow]) -> Iterator[tuple[SampleRow, Inputs]]:
    """Yield the samples that are there still, and whole."""
    for row in rows:
        with contextlib.suppress(OSError, npz.DamagedError):
            yield row, npz.decode((directory / row.file_name).read_bytes())


def _displays(
    samples: Iterator[tuple[SampleRow, Inputs]], preprocessing: Preprocessing
) -> dict[tuple[str, Form], Display]:
    """Return how each input is shown; one with free extents may have several forms."""
    extents: dict[tuple[str, Form], list[tuple[Array, Array]]] = {}
    for _, inputs in samples:
        for name, values in inputs.items():
            form = form_of(values, preprocessing)
            found = extents.setdefault((name, form), [])
            if (extent := extent_of(form, values)) is not None:
                found.append(extent)
    return {
        (name, form): display_of(form, found, preprocessing)
        for (name, form), found in extents.items()
    }


def _entry(
    row: SampleRow,
    inputs: Inputs,
    displays: Mapping[tuple[str, Form], Display],
    preprocessing: Preprocessing,
    held_out_ratio: float,
) -> dict[str, Any]:
    pictures = []
    for name, values in inputs.items():
        if display := displays.get((name, form_of(values, preprocessing))):
            shape, picture = list(values.shape), _as_json(display.thumbnail(values))
            pictures.append({"input": name, "shape": shape, "is_map": display.is_map, **picture})
    return {
        **asdict(replace(row, held_out=is_held_out(row.id, held_out_ratio))),
        "stratum": stratum_in_words(row.stratum) if row.origin == "captured" else "",
        "pictures": pictures,
    }


def _as_json(picture: Thumbnail) -> dict[str, Any]:
    content = base64.b64encode(picture.content).decode()
    return {
        "media": picture.media, "content": content,
        "width": picture.width, "height": picture.height,
    }  # fmt: skip
