"""Files as a person has them (.npy .npz .png .jpg) -> samples as the float model takes them.

Everything is read by rows, so a stack of any size costs the memory of one sample; a file that
shrinks meanwhile is an error and not the SIGBUS that a memory map would give.
"""

from __future__ import annotations

import contextlib
import io
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import SampleError
from edgeq.samples import npz
from edgeq.samples.image import Preprocessing, read_image
from edgeq.samples.naming import stratum_of_file
from edgeq.samples.store import Sample, sample_id
from edgeq.tflite.runtime import TensorSpec

__all__ = ["SUFFIXES", "Preprocessing", "decode_bytes", "load_file", "load_folder"]

Array = npt.NDArray[Any]

SUFFIXES = (".npy", ".npz", ".png", ".jpg", ".jpeg")
SHORT_NAME = "x"  # what an .npz may call the input of a model that has only one
_AS_IT_IS = Preprocessing()


def load_folder(
    directory: Path,
    inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing = _AS_IT_IS,
    *,
    on_bad: Callable[[SampleError], None] | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a folder's files, sorted by name; other files are ignored.

    A file that vanishes meanwhile is skipped: the daemon replaces captured samples.

    Args:
        directory: the folder; its subfolders are not read.
        inputs: what the float model takes.
        preprocessing: of images.
        on_bad: told of each file that cannot be used, which is then skipped.

    Raises:
        SampleError: the folder cannot be listed; or, without `on_bad`, a file cannot be used.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if _is_sample(path))
    except OSError as error:
        raise SampleError(
            f"the samples folder {directory} cannot be read: {error.strerror}",
            hint="Give an existing folder with .npy, .npz, .png or .jpg files.",
        ) from error
    for path in paths:
        try:
            stratum = stratum_of_file(path.name)
            for sample in load_file(path, inputs, preprocessing):
                yield replace(sample, stratum=stratum)
        except FileNotFoundError:
            continue
        except SampleError as error:
            if on_bad is None:
                raise
            on_bad(error)


def _is_sample(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
        return False
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.stat().st_mode)
    return False


def load_file(
    path: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing = _AS_IT_IS
) -> Iterator[Sample]:
    """Yield the samples of one file.

    Raises:
        SampleError: names the file, what it holds and what the model takes.
        FileNotFoundError: it is gone.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SampleError(f"{path.name} cannot be read: {error.strerror}") from error
    with stream:
        yield from _decode(stream, path.name, inputs, preprocessing)


def decode_bytes(
    content: bytes,
    filename: str,
    inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing = _AS_IT_IS,
) -> Iterator[Sample]:
    """Yield the samples of an uploaded file; its name says its format. Errors as `load_file`."""
    return _decode(io.BytesIO(content), filename, inputs, preprocessing)


def _decode(
    stream: IO[bytes], name: str, inputs: Sequence[TensorSpec], preprocessing: Preprocessing
) -> Iterator[Sample]:
    try:
        for arrays in _read(stream, name, inputs, preprocessing):
            yield Sample(sample_id(arrays), arrays)
    except npz.DamagedError as error:
        raise SampleError(f"{name}: {error}", hint="Write or copy the file again.") from error
    except SampleError as error:
        raise SampleError(f"{name}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise SampleError(f"{name} cannot be read: {error}", hint="Copy the file again.") from error


def _read(
    stream: IO[bytes], name: str, inputs: Sequence[TensorSpec], preprocessing: Preprocessing
) -> Iterator[dict[str, Array]]:
    suffix = Path(name).suffix.lower()
    if suffix == ".npz":
        yield from _read_archive(stream, inputs)
    elif suffix == ".npy":
        yield from _rows_of({_only(inputs): npz.open_array(stream)})
    elif suffix in SUFFIXES:
        spec = _only(inputs)
        pixels = read_image(stream, spec, preprocessing)
        _count(spec, pixels.shape)
        yield {spec.name: _cast(pixels.reshape(1, *pixels.shape), spec)}
    else:
        raise SampleError(
            f"the suffix {suffix!r} is unknown; {', '.join(SUFFIXES)} are read",
            hint="Convert the file, or rename it if only its name is wrong.",
        )


def _only(inputs: Sequence[TensorSpec]) -> TensorSpec:
    if len(inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in inputs)
        raise SampleError(
            f"the file holds one array; the model takes {len(inputs)} ({names})",
            hint="Give an .npz with one array per input, named as the inputs.",
        )
    return inputs[0]


def _read_archive(stream: IO[bytes], inputs: Sequence[TensorSpec]) -> Iterator[dict[str, Array]]:
    with npz.open_archive(stream) as archive:
        members = {member.filename: member for member in archive.infolist()}
        arrays = {}
        for spec in inputs:
            names = [npz.member_name(spec.name), f"{spec.name}.npy"]
            names += [f"{SHORT_NAME}.npy"] if len(inputs) == 1 else []
            found = next((name for name in names if name in members), None)
            if found is None:
                raise _missing(spec, sorted(members), is_only=len(inputs) == 1)
            arrays[spec] = npz.open_member(archive, members[found])
        yield from _rows_of(arrays)


def _missing(spec: TensorSpec, members: list[str], *, is_only: bool) -> SampleError:
    held = ", ".join(repr(member.removesuffix(".npy")) for member in members[:8]) or "nothing"
    short = f" or {SHORT_NAME!r}" if is_only else ""
    return SampleError(
        f"the file holds {held}; the model takes {spec.name!r}{short}",
        hint="Name the arrays of the .npz as the model's inputs.",
    )


def _rows_of(arrays: dict[TensorSpec, npz.ArrayStream]) -> Iterator[dict[str, Array]]:
    """Yield one dict per sample, all arrays in step."""
    counts = {spec.name: _count(spec, array.shape) for spec, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise SampleError(
            f"the file holds unequal numbers of samples: {listed}",
            hint="Stack the arrays so that each holds one row per sample.",
        )
    rows = [(spec, _rows(spec, array)) for spec, array in arrays.items()]
    for _ in range(next(iter(counts.values()), 0)):
        yield {spec.name: _cast(next(values), spec) for spec, values in rows}


def _count(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """Return how many samples an array of `shape` holds for an input.

    One with or without the batch dimension; else a stack of them, with a batch over 1 cut into
    groups. The forms are tried in this order, so an array that can be one sample is one.
    """
    batch = spec.shape[0] if spec.shape else 1
    without = TensorSpec(spec.name, spec.shape[1:], spec.dtype)
    if spec.accepts(shape) or (batch == 1 and without.accepts(shape)):
        return 1
    if spec.shape and shape and without.accepts(shape[1:]) and shape[0] % batch == 0:
        return shape[0] // batch
    if shape and spec.accepts(shape[1:]):
        return shape[0]
    raise SampleError(
        f"an array of shape {list(shape)} for input {spec.name!r}; the model takes "
        f"{list(spec.shape)}, or a stack [N, {str(list(spec.shape[1:]))[1:]}",
        hint="Give values as the float model takes them.",
    )


def _rows(spec: TensorSpec, array: npz.ArrayStream) -> Iterator[Array]:
    """Yield the array's samples with their batch dimension."""
    count = _count(spec, array.shape)
    rank = len(spec.shape)
    extents = array.shape[len(array.shape) - rank + 1 :] if rank else ()
    shape = (*spec.shape[:1], *extents)
    if array.is_fortran:
        yield from np.ascontiguousarray(array.read_all()).reshape(count, *shape)
        return
    for _ in range(count):
        yield array.read_rows(shape)


def _cast(array: Array, spec: TensorSpec) -> Array:
    """Return the values in the input's type: floats are rounded to it, all else must be exact."""
    if array.dtype == spec.dtype:
        return array
    if spec.dtype.kind not in npz.NUMERIC_KINDS:
        raise SampleError(f"input {spec.name!r} is of type {spec.dtype}, which no file can give")
    with np.errstate(all="ignore"):
        result = array.astype(spec.dtype)
        is_rounded = array.dtype.kind == "f" and spec.dtype.kind == "f"
        if is_rounded:
            is_kept = bool(np.array_equal(np.isfinite(result), np.isfinite(array)))
        else:
            is_kept = bool(np.array_equal(result.astype(array.dtype), array))
    if not is_kept:
        raise SampleError(
            f"values of type {array.dtype} between {array.min()} and {array.max()} do not fit "
            f"input {spec.name!r} of type {spec.dtype}",
            hint="Give values as the float model takes them.",
        )
    return result
