"""Named arrays <-> the bytes of an .npz, read one row at a time and never unpickled.

`np.savez` takes names as keywords, so an input called 'file' cannot be written, and `np.load`
allocates what a header claims before it looks at the file. Neither is good enough for names and
bytes that come from others.
"""

from __future__ import annotations

import ast
import io
import math
import operator
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_READ_BYTES = 256 << 20  # one sample, or one array that cannot be read by rows
MAX_HEADER_BYTES = 1 << 14
_MAGIC = b"\x93NUMPY"
_LENGTH_FORMATS = {(1, 0): "<H", (2, 0): "<I"}  # 3.0 is for structured types with Unicode names
NUMERIC_KINDS = "biuf"
_NUMERIC = re.compile(rf"[<>|=]?[{NUMERIC_KINDS}][0-9]{{1,2}}")
_SUFFIX = ".npy"
_PLAIN = " !#$&'()*+,/:;=@[]^`{|}~-_.<>?\""  # stays readable in a member's name; '%' does not
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same arrays always give the same bytes


class DamagedError(ValueError):
    """The bytes are torn, or something else than their name says."""


@dataclass(frozen=True)
class ArrayStream:
    """An array whose header has been read; its values come from `stream`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    stream: IO[bytes]

    def read_rows(self, shape: tuple[int, ...]) -> Array:
        """Return the next values in C order as an array of `shape`.

        Raises:
            DamagedError: the file ends before them, or they are over MAX_READ_BYTES.
        """
        expected = math.prod(shape) * self.dtype.itemsize
        if expected > MAX_READ_BYTES:
            raise DamagedError(f"{list(shape)} values are over {MAX_READ_BYTES} bytes")
        content = _read(self.stream, expected)
        values: Array = np.frombuffer(content, self.dtype).reshape(shape)
        return values

    def read_all(self) -> Array:
        """Return the whole array; errors as `read_rows`."""
        if self.is_fortran:
            return np.transpose(self.read_rows(self.shape[::-1]))
        return self.read_rows(self.shape)


def open_array(stream: IO[bytes]) -> ArrayStream:
    """Read the header of an .npy file (NEP 1).

    Raises:
        DamagedError: not an .npy file, or its values are not plain numbers.
    """
    start = _read(stream, len(_MAGIC) + 2)
    length_format = _LENGTH_FORMATS.get((start[-2], start[-1]))
    if not start.startswith(_MAGIC) or length_format is None:
        raise DamagedError(f"it starts with {start!r}; an .npy file has \\x93NUMPY, version 1 or 2")
    length = struct.unpack(length_format, _read(stream, struct.calcsize(length_format)))[0]
    if length > MAX_HEADER_BYTES:
        raise DamagedError(f"the header claims {length} bytes; at most {MAX_HEADER_BYTES} are read")
    shape, descr, is_fortran = _parse_header(_read(stream, length))
    return ArrayStream(shape, _dtype(descr), is_fortran, stream)


def _parse_header(content: bytes) -> tuple[tuple[int, ...], object, bool]:
    try:
        header = ast.literal_eval(content.decode("latin-1").strip())
        shape = tuple(
            operator.index(extent) for extent in header["shape"]
        )  # 2.9 and 1e999 are none
        descr, is_fortran = header["descr"], bool(header["fortran_order"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise DamagedError("the .npy header cannot be read") from error
    if any(extent < 0 for extent in shape):
        raise DamagedError(f"the shape {list(shape)} is impossible")
    return shape, descr, is_fortran


def _dtype(descr: object) -> np.dtype[Any]:
    if isinstance(descr, str) and _NUMERIC.fullmatch(descr):
        try:
            return np.dtype(descr)
        except TypeError as error:
            raise DamagedError(f"the type {descr!r} is unknown") from error
    raise DamagedError(f"the values are of type {descr!r}; plain numbers are read")


def _read(stream: IO[bytes], size: int) -> bytes:
    try:
        content = stream.read(size)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DamagedError(f"the file is torn: {error}") from error
    if len(content) != size:
        raise DamagedError(f"the file ends after {len(content)} of {size} bytes")
    return content


def open_archive(stream: IO[bytes]) -> zipfile.ZipFile:
    """Open an .npz.

    Raises:
        DamagedError: not a zip file, or its directory is torn.
    """
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, OSError, ValueError) as error:
        raise DamagedError(f"it is not a readable .npz: {error}") from error


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayStream:
    """Open one array of an archive; errors as `open_array`."""
    is_plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if not is_plain or member.flag_bits & 0x1:  # bit 0: encrypted
        raise DamagedError(f"{member.filename!r} is encrypted or compressed in an unknown way")
    try:
        stream = archive.open(member)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError) as error:
        raise DamagedError(f"{member.filename!r} cannot be opened: {error}") from error
    return open_array(stream)


def encode(arrays: Mapping[str, Array]) -> bytes:
    """Return the uncompressed .npz of `arrays`; the same arrays give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(arrays[name]), allow_pickle=False)  # type: ignore[no-untyped-call, unused-ignore]
            archive.writestr(zipfile.ZipInfo(member_name(name), _EPOCH), member.getbuffer())
    return content.getvalue()


def decode(content: bytes) -> dict[str, Array]:
    """Return the arrays that `encode` was given.

    Raises:
        DamagedError: the bytes are torn or something else.
    """
    with open_archive(io.BytesIO(content)) as archive:
        return {
            unquote(member.filename.removesuffix(_SUFFIX), errors="surrogatepass"): open_member(
                archive, member
            ).read_all()
            for member in archive.infolist()
        }


def member_name(name: str) -> str:
    """Return the zip member of the array `name`; any string has one of its own."""
    return quote(name, safe=_PLAIN, errors="surrogatepass") + _SUFFIX
