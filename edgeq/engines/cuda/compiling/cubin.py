"""A cubin -> what each of its kernels occupies of a multiprocessor, read from the ELF itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeq.errors import EngineError

_MACHINE_CUDA = 190
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")

# `.nv.info`: entries of a format, an attribute and 16 bits, which are the size of what follows in
# format 4. The numbers are those that cuobjdump and CuAssembler print by these names.
_SIZED = 4
_REGISTER_COUNT = 0x2F
_FRAME_SIZE = 0x11

# From sm_90 on the linker counts what the system keeps for itself at the start of a block's shared
# memory, and says so by a section; ptxas and the occupancy formula count it apart.
_RESERVED_SECTION = ".nv.shared.reserved.0"
_RESERVED_BYTES = 1024


@dataclass(frozen=True)
class Resources:
    """What one kernel takes; shared memory without what the launch adds or the system reserves."""

    registers: int  # of a thread
    shared_bytes: int  # of a block, static
    stack_bytes: int  # of a thread, in local memory: spilled registers, and arrays indexed late
    constant_bytes: int  # parameters and the module's tables included
    code_bytes: int


@dataclass(frozen=True)
class _Section:
    name: str
    offset: int
    size: int


def read_resources(image: bytes) -> dict[str, Resources]:
    """Return the resources of every kernel in a cubin, by its name.

    Raises:
        EngineError: these bytes are no cubin, or one of a layout unknown here.
    """
    try:
        sections = {section.name: section for section in _sections(image)}
        symbols = _symbol_names(image, sections)
        registers = _attribute(image, sections, symbols, _REGISTER_COUNT)
        frames = _attribute(image, sections, symbols, _FRAME_SIZE)
        texts = [name for name in sections if name.startswith(".text.")]
        return {
            kernel: _resources(kernel, sections, registers, frames)
            for kernel in (name.removeprefix(".text.") for name in texts)
            if kernel in registers
        }
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise EngineError(f"{len(image)} bytes are no whole cubin: {error!r}") from error


def _resources(
    kernel: str,
    sections: Mapping[str, _Section],
    registers: Mapping[str, int],
    frames: Mapping[str, int],
) -> Resources:
    def size(*names: str) -> int:
        return sum(sections[name].size for name in names if name in sections)

    banks = [f".nv.constant{bank}" for bank in range(5)]
    reserved = _RESERVED_BYTES if _RESERVED_SECTION in sections else 0
    return Resources(
        registers=registers[kernel],
        shared_bytes=max(0, size(f".nv.shared.{kernel}") - reserved),
        stack_bytes=frames.get(kernel, 0),
        constant_bytes=size(*banks, *[f"{bank}.{kernel}" for bank in banks]),
        code_bytes=size(f".text.{kernel}"),
    )


def _sections(image: bytes) -> Iterator[_Section]:
    header = _HEADER.unpack_from(image)
    identity, machine, table, size, count, names_at = (header[i] for i in (0, 2, 6, 11, 12, 13))
    if identity[:6] != b"\x7fELF\x02\x01" or machine != _MACHINE_CUDA or size != _SECTION.size:
        raise ValueError("no 64-bit ELF for CUDA")
    segments, segment_size, segment_count = header[5], header[9], header[10]
    if segments + segment_size * segment_count > len(image):
        raise ValueError("its segments are not all there")
    rows = [_SECTION.unpack_from(image, table + index * size) for index in range(count)]
    names = rows[names_at][4]
    for name, _, _, _, offset, length, *_ in rows:
        yield _Section(_text(image, names + name), offset, length)


def _symbol_names(image: bytes, sections: Mapping[str, _Section]) -> list[str]:
    table, strings = sections[".symtab"], sections[".strtab"]
    rows = _SYMBOL.iter_unpack(image[table.offset : table.offset + table.size])
    return [_text(image, strings.offset + name) for name, *_ in rows]


def _attribute(
    image: bytes, sections: Mapping[str, _Section], symbols: list[str], wanted: int
) -> dict[str, int]:
    """Return an attribute of `.nv.info` that is given as pairs of a symbol and a number."""
    found = {}
    section = sections[".nv.info"]
    at, end = section.offset, section.offset + section.size
    while at < end:
        form, attribute, size = struct.unpack_from("<BBH", image, at)
        if attribute == wanted and form == _SIZED:
            symbol, value = struct.unpack_from("<II", image, at + 4)
            found[symbols[symbol]] = value
        at += 4 + (size if form == _SIZED else 0)
    return found


def _text(image: bytes, start: int) -> str:
    return image[start : image.index(b"\0", start)].decode("utf-8")
