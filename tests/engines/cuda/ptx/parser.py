"""PTX as NVRTC emits it -> one kernel: its parameters, registers, memory and instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

DYNAMIC_ALIGNMENT = 128  # EQ_DYNAMIC_SMEM's


class PtxFault(AssertionError):
    """PTX that is not understood, or that did what no kernel may."""


@dataclass(frozen=True)
class Address:
    """[base + offset]; the base is a register, a parameter or a name of memory."""

    base: str
    offset: int


@dataclass(frozen=True)
class Vector:
    """{a, b, ...}."""

    parts: tuple[str, ...]


Operand = str | Address | Vector


@dataclass(frozen=True)
class Instruction:
    """One instruction: `opcode` is split at its dots."""

    opcode: tuple[str, ...]
    operands: tuple[Operand, ...]
    predicate: str  # a register's name, or ""
    negated: bool
    text: str

    @property
    def type(self) -> str:
        """Return the last part, which is the type of most instructions."""
        return self.opcode[-1]


@dataclass(frozen=True)
class Variable:
    """Named memory: shared or local, of a block or a thread."""

    name: str
    offset: int
    size: int  # 0: the rest, as the launch says


@dataclass
class PtxKernel:
    """An entry point."""

    name: str
    parameters: tuple[str, ...]
    registers: dict[str, str] = field(default_factory=dict)  # name or prefix -> type
    shared: dict[str, Variable] = field(default_factory=dict)
    local: dict[str, Variable] = field(default_factory=dict)
    constants: dict[str, bytes] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    targets: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of brx.idx

    @property
    def shared_bytes(self) -> int:
        """Return the static shared memory."""
        return _end(self.shared)

    @property
    def local_bytes(self) -> int:
        return _end(self.local)


def _end(variables: dict[str, Variable]) -> int:
    return max((v.offset + v.size for v in variables.values()), default=0)


def parse(text: str) -> PtxKernel:
    """Read a module with one entry point."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^\.(version|target|address_size)[^\n]*", "", text, flags=re.MULTILINE)
    entry = re.search(r"\.entry\s+(\w+)\s*\(([^)]*)\)", text)
    if entry is None:
        raise PtxFault("the module has no entry point")
    kernel = PtxKernel(entry[1], tuple(re.findall(r"(\w+)\s*(?:,|$)", entry[2].strip())))
    for declaration in _statements(text[: entry.start()]):
        _declare(kernel, declaration)
    start = text.index("{", entry.end()) + 1
    for statement in _statements(text[start : text.rindex("}")]):
        _read(kernel, statement)
    _place_dynamic(kernel)
    return kernel


def _place_dynamic(kernel: PtxKernel) -> None:
    """Put what the launch sizes behind all that the kernel sizes itself."""
    start = -(-kernel.shared_bytes // DYNAMIC_ALIGNMENT) * DYNAMIC_ALIGNMENT
    for name, variable in kernel.shared.items():
        if variable.size == 0:
            kernel.shared[name] = Variable(name, start, 0)


def _statements(text: str) -> Iterator[str]:
    """Yield statements without their semicolons, and labels with their colons."""
    for part in text.split(";"):
        rest = part.strip().lstrip("{}").strip()
        while label := re.match(r"(\$?\w+):\s*", rest):
            yield f"{label[1]}:"
            rest = rest[label.end() :].lstrip("{}").strip()
        if rest.strip("{}").strip():
            yield " ".join(rest.split())


def _read(kernel: PtxKernel, statement: str) -> None:
    if statement.endswith(":"):
        kernel.labels[statement[:-1]] = len(kernel.instructions)
    elif statement.startswith("."):
        _declare(kernel, statement)
    else:
        kernel.instructions.append(_instruction(statement))


def _declare(kernel: PtxKernel, statement: str) -> None:
    if found := re.match(r"\.reg \.(\w+) (.*)", statement):
        for name in found[2].split(","):
            kernel.registers[re.sub(r"<\d+>", "", name.strip())] = found[1]
    elif found := re.match(r"(?:\.extern )?\.(shared|local) (?:\.align (\d+) )?(.*)", statement):
        _declare_memory(kernel, found[1], int(found[2] or 1), found[3])
    elif found := re.match(r"\.branchtargets (.*)", statement):
        kernel.targets[list(kernel.labels)[-1]] = tuple(n.strip() for n in found[1].split(","))
    elif re.match(r"\.(global|const) ", statement) or ".visible .const" in statement:
        raise PtxFault(f"constant tables of a module are not interpreted: {statement[:100]}")


def _declare_memory(kernel: PtxKernel, space: str, alignment: int, text: str) -> None:
    found = re.match(r"\.[bsuf](\d+) ([\w$]+)(?:\[(\d*)\])?", text)
    if found is None:
        raise PtxFault(f"memory that is not understood: {text}")
    count = int(found[3] or 0) if "[" in text else 1
    variables = kernel.shared if space == "shared" else kernel.local
    offset = -(-_end(variables) // alignment) * alignment
    variables[found[2]] = Variable(found[2], offset, count * int(found[1]) // 8)


def _instruction(statement: str) -> Instruction:
    found = re.match(r"(?:@(!?)(%\w+) )?([a-z][\w.:]*)\s*(.*)", statement)
    if found is None:
        raise PtxFault(f"a statement that is not understood: {statement}")
    operands = tuple(_operand(text) for text in _split(found[4]))
    opcode = tuple(part for part in found[3].replace("::", "_").split(".") if part)
    return Instruction(opcode, operands, found[2] or "", bool(found[1]), statement)


def _split(text: str) -> Iterator[str]:
    """Split operands at the commas outside braces and brackets."""
    depth, start = 0, 0
    for position, character in enumerate(text):
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    if text[start:].strip():
        yield text[start:].strip()


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return Vector(tuple(part.strip() for part in text[1:-1].split(",")))
    if text.startswith("["):
        base, _, offset = text[1:-1].partition("+")
        return Address(base.strip(), int(offset or 0))
    return text
