"""A finished build <-> its folder: manifest, models, calibration, verdict, golden answers.

A bundle is published by one rename and never changed afterwards: it is either wholly there, with
the digest of every file in `manifest.json`, or it is not there.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq import files as disk
from edgeq.errors import BundleError

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Value = TypeVar("Value")

FORMAT = 1  # raised when a bundle can no longer be read by the edgeq before it
MANIFEST = "manifest.json"
REPORT = "report.html"
BUILD_AGAIN = "Build the bundle again from its float model."

GOLDEN_TOLERANCE = 1e-3  # of the output's largest magnitude: below half a step of an INT8 output
GOLDEN_FLOOR = 1e-6  # where the output is zero everywhere


@dataclass(frozen=True)
class FileEntry:
    """What one file of a bundle must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle is and where it came from; `files` is filled in by `write_bundle`."""

    name: str
    engine: str  # 'float' | 'cpu-int8' | 'cuda-int8'
    backend: str
    method: str
    model_sha256: str
    samples: int
    runtime: str
    edgeq: str
    created: float = field(default_factory=time.time)  # seconds since the epoch
    float_ops: tuple[dict[str, Any], ...] = ()
    refined: tuple[str, ...] = ()  # the refinements that were kept, e.g. 'bias_correction'
    details: Mapping[str, Any] = field(default_factory=dict)  # of a GPU's engine: target, tuning
    device: Mapping[str, str] = field(default_factory=dict)  # the box that built and proved it
    format: int = FORMAT
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the content of `manifest.json`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Read `manifest.json`; keys that this edgeq does not know are ignored.

        Raises:
            BundleError: not JSON, incomplete, or of a newer format.
        """
        try:
            values = json.loads(content)
            if not isinstance(values, dict):
                raise TypeError("not a JSON object")
            _check_format(values.get("format"))
            entries = {name: FileEntry(**entry) for name, entry in values["files"].items()}
            own = {key: values[key] for key in (f.name for f in fields(cls)) if key in values}
            own["float_ops"] = tuple(values["float_ops"])
            own["refined"] = tuple(values.get("refined", ()))  # older bundles have none
            own["device"] = {str(k): str(v) for k, v in values.get("device", {}).items()}
            return cls(**{**own, "files": entries})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"{MANIFEST} is damaged: {error}", hint=BUILD_AGAIN) from error


def _check_format(found: object) -> None:
    if not isinstance(found, int):
        raise TypeError(f"format is {found!r}, not a number")
    if found > FORMAT:
        raise BundleError(
            f"the bundle has format {found}; this edgeq reads formats up to {FORMAT}",
            hint="Update edgeq, or build the bundle again with this one.",
        )


@dataclass(frozen=True)
class Bundle:
    """An opened bundle folder; its files have been checked against the manifest."""

    directory: Path
    manifest: Manifest

    @classmethod
    def open(cls, directory: Path) -> Bundle:
        """Open a bundle and check the presence, size and digest of every file in its manifest.

        Raises:
            BundleError: a file is missing or altered, or the bundle's format is newer.
        """
        try:
            content = (directory / MANIFEST).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{directory} is not a bundle: {MANIFEST} cannot be read ({error.strerror})",
                hint="Name the folder that `edgeq build` wrote.",
            ) from error
        bundle = cls(directory, Manifest.from_json(content))
        for name, entry in bundle.manifest.files.items():
            _check_file(directory, name, entry)
        return bundle

    def has(self, name: str) -> bool:
        """Say whether the bundle holds the file `name`."""
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """Return the content of a file; its digest is checked once more.

        Raises:
            BundleError: there is no such file, or it was altered since the bundle was opened.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(
                f"bundle {self.directory} has no file {name!r}; "
                f"it has {sorted(self.manifest.files)}",
                hint=BUILD_AGAIN,
            )
        content = _reading(self.directory, name, lambda path: path.read_bytes())
        _compare(name, FileEntry(disk.sha256_bytes(content), len(content)), entry)
        return content

    def read_if_there(self, name: str) -> bytes | None:
        """Return the content of a file, None where the bundle has no such file.

        Raises:
            BundleError: it was altered since the bundle was opened.
        """
        return self.read(name) if self.has(name) else None


def write_bundle(directory: Path, files: Mapping[str, bytes], manifest: Manifest) -> Bundle:
    """Write `files` and the manifest with their digests as the new folder `directory`.

    The folder appears complete and durable, or not at all.

    Raises:
        BundleError: the folder is already there, a name leads out of it, or the disk refuses.
    """
    if directory.exists():
        raise _already_there(directory)
    entries = {name: FileEntry(disk.sha256_bytes(data), len(data)) for name, data in files.items()}
    complete = replace(manifest, files=entries)
    try:
        disk.make_directory(directory.parent)
        temporary = disk.make_temporary_directory(directory.parent)
        try:
            for name, data in {**files, MANIFEST: complete.to_json()}.items():
                _write(_inside(temporary, name), data)
            disk.publish_directory(temporary, directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already where it was renamed
    except OSError as error:
        if directory.exists():
            raise _already_there(directory) from error
        raise BundleError(
            f"bundle {directory} cannot be written: {error.strerror}",
            hint="Free some space on that disk and see that its folder is writable.",
        ) from error
    return Bundle(directory, complete)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _already_there(directory: Path) -> BundleError:
    return BundleError(
        f"{directory} is already there; a bundle is never overwritten",
        hint="Give another folder, or remove that one first.",
    )


def _inside(directory: Path, name: str) -> Path:
    """Return the path of a bundle's file; a name may lead down ('cuda/plan.json'), never out."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in name:
        raise BundleError(f"the bundle names a file {name!r}, outside its folder", hint=BUILD_AGAIN)
    return directory.joinpath(*parts)


def _reading(directory: Path, name: str, read: Callable[[Path], Value]) -> Value:
    try:
        return read(_inside(directory, name))
    except OSError as error:
        raise BundleError(
            f"file {name!r} of bundle {directory} cannot be read: {error.strerror}",
            hint=BUILD_AGAIN,
        ) from error


def _check_file(directory: Path, name: str, expected: FileEntry) -> None:
    size = _reading(directory, name, lambda path: path.stat().st_size)
    if size != expected.bytes:  # cheaper than the digest, and says more about a cut file
        raise BundleError(
            f"file {name!r} of bundle {directory} has {size} bytes; expected {expected.bytes}",
            hint=BUILD_AGAIN,
        )
    digest = _reading(directory, name, disk.sha256_file)
    _compare(name, FileEntry(digest, size), expected)


def _compare(name: str, actual: FileEntry, expected: FileEntry) -> None:
    if actual != expected:
        raise BundleError(
            f"file {name!r} was altered: it has {actual.bytes} bytes and SHA-256 {actual.sha256}; "
            f"expected {expected.bytes} and {expected.sha256}",
            hint=BUILD_AGAIN,
        )


@dataclass(frozen=True)
class Golden:
    """Inputs and the outputs that the built engine gave for them, one dict a run."""

    inputs: tuple[dict[str, Array], ...]
    outputs: tuple[dict[str, Array], ...]

    def to_npz(self) -> bytes:
        """Return the content of `golden.npz`: arrays by position, their names beside them.

        Raises:
            BundleError: an array holds Python objects.
        """
        arrays, names = {}, {}
        for side, runs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names[side] = [list(run) for run in runs]
            for row, run in enumerate(runs):
                for column, (name, value) in enumerate(run.items()):
                    _check_plain(name, value)
                    arrays[f"{side}-{row}-{column}"] = value
        index = np.frombuffer(json.dumps(names).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, index=index, **arrays)  # type: ignore[arg-type] # allow_pickle's bool
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Golden:
        """Read `golden.npz`.

        Raises:
            BundleError: the file is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                names = json.loads(archive["index"].tobytes())
                inputs, outputs = (
                    tuple(
                        {name: archive[f"{side}-{row}-{i}"] for i, name in enumerate(run)}
                        for row, run in enumerate(names[side])
                    )
                    for side in ("inputs", "outputs")
                )
        except Exception as error:  # zipfile, zlib, numpy and json each raise their own
            raise BundleError(
                f"the golden answers are damaged: {error}", hint=BUILD_AGAIN
            ) from error
        return cls(inputs, outputs)

    def mismatch(self, infer: Callable[[dict[str, Array]], Arrays]) -> str:
        """Return "" where `infer` reproduces every output, else thing, actual and expected.

        A float output may differ by 0.001 of the expected output's largest magnitude; NaN and
        infinities must stand where they stood; integers and booleans must be equal.
        """
        for number, (inputs, expected) in enumerate(zip(self.inputs, self.outputs, strict=True)):
            actual = infer(inputs)
            for name, value in expected.items():
                if difference := _difference(actual.get(name), value):
                    return f"output {name!r} of golden input {number} {difference}"
        return ""


def _check_plain(name: str, value: Array) -> None:
    if value.dtype.hasobject:
        raise BundleError(
            f"golden array {name!r} has type {value.dtype}; it must hold numbers",
            hint="Leave tensors of strings out of the golden answers.",
        )


def _difference(actual: Array | None, expected: Array) -> str:
    if actual is None:
        return "is missing"
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return (
            f"is {actual.dtype} {list(actual.shape)}; "
            f"expected {expected.dtype} {list(expected.shape)}"
        )
    if expected.dtype.kind != "f":
        return _largest(actual != expected, actual, expected)
    finite = np.isfinite(expected)
    peak = float(np.abs(expected, where=finite, out=np.zeros_like(expected)).max(initial=0.0))
    tolerance = max(GOLDEN_TOLERANCE * peak, GOLDEN_FLOOR)
    close = np.isclose(actual, expected, rtol=0.0, atol=tolerance, equal_nan=True)
    return _largest(~close, actual, expected, f" within {tolerance:.3g}")


def _largest(wrong: npt.NDArray[np.bool_], actual: Array, expected: Array, within: str = "") -> str:
    """Describe the first wrong element; "" where there is none."""
    if not wrong.any():
        return ""
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"is {actual[where]} at {list(where)}; expected {expected[where]}{within} "
        f"({int(wrong.sum())} of {wrong.size} values differ)"
    )
