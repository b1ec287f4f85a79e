"""A YAML file -> plain values, and the line of every key: the only reader of YAML.

Only what a configuration needs is read: no aliases (a small file cannot become a large one), no
tags, each key once, and YAML 1.2's plain scalars (`off` is a word, not false; 010 no octal).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgeq.errors import ConfigError
from edgeq.files import sha256_bytes

MAX_FILE_BYTES = 256 << 10
MAX_DEPTH = 16

Location = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": int,
    f"{_TAG}float": float,
    f"{_TAG}str": str,
}
_PLAIN = (
    (f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z")),
    (f"{_TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    (f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})\Z")),
    (
        f"{_TAG}float",
        re.compile(r"[-+]?(?:\.\d+|(?:0|[1-9]\d*)(?:\.\d*)?)(?:[eE][-+]?\d+)?\Z", re.A),
    ),
)
_KINDS = {yaml.MappingNode: f"{_TAG}map", yaml.SequenceNode: f"{_TAG}seq"}


@dataclass(frozen=True)
class Document:
    """What a file says and where it says it; a file that is not there says nothing."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[Location, int]
    sha256: str = ""  # of the file, as it was read

    def line(self, location: Location) -> int:
        """Return the line of a key, or of the nearest key around it; 1 is the first."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {None: list(_PLAIN)}  # noqa: RUF012 - PyYAML's name and form
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="an alias is not taken here", problem_mark=mark)
        if self._depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_document(path: Path) -> Document:
    """Read a YAML file whose top is a mapping.

    Raises:
        ConfigError: names file and line of what is not YAML, or not taken.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="Check the path and its permissions."
        ) from error
    return parse_document(path, content)


def parse_document(path: Path, content: bytes) -> Document:
    """Read what a YAML file holds, of which the first MAX_FILE_BYTES + 1 bytes are enough.

    Raises:
        ConfigError: names file and line of what is not YAML, or not taken.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is over {MAX_FILE_BYTES} bytes; a configuration is smaller")
    reader = _Reader(path)
    node = _compose(path, content)
    values = {} if node is None else reader.value(node, ())
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: the file holds {values!r}; expected keys with values")
    return Document(path, values, reader.lines, sha256_bytes(content))


def parse_scalar(text: str) -> Any:
    """Return what a plain value in a file would mean, e.g. for an environment variable.

    Raises:
        ValueError: the text is not YAML, or not taken.
    """
    source = Path("value")
    try:
        node = _compose(source, text.encode())
        return None if node is None else _Reader(source).value(node, ())
    except ConfigError as error:
        raise ValueError(error.message) from error


def _compose(path: Path, content: bytes) -> Any:
    try:
        loader = _Loader(content)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _failure(path, line, error.problem or "not YAML") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise _failure(path, 1, str(error).splitlines()[0]) from error


def _failure(path: Path, line: int, problem: str) -> ConfigError:
    return ConfigError(f"{path}:{line}: {problem}", hint="Mend the YAML at that line.")


class _Reader:
    """Turns nodes into values and remembers where each key stood."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}

    def value(self, node: Any, location: Location) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(location, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        if node.tag != _KINDS[type(node)]:
            raise _failure(self.path, line, f"the tag {node.tag!r} is not taken here")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
        return self._mapping(node, location)

    def _scalar(self, node: Any, line: int) -> Any:
        if node.tag not in _SCALARS:
            raise _failure(self.path, line, f"the tag {node.tag!r} is not taken here")
        try:
            return _SCALARS[node.tag](node.value)
        except ValueError as error:
            raise _failure(self.path, line, f"{node.value!r} is not {node.tag}") from error

    def _mapping(self, node: Any, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _failure(self.path, line, "a key is a mapping or list; expected a word")
            here = (*location, key)
            if key in values:
                first = self.lines[here]
                raise _failure(
                    self.path, line, f"key {key!r} is there twice; first at line {first}"
                )
            self.lines[here] = line
            values[key] = self.value(value_node, here)
        return values
