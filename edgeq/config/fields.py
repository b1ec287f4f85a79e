"""Numbers, sizes, times and paths as a configuration may write them, and what a section is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationInfo,
    model_validator,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZE = re.compile(r"(\d{1,15}) ?(KiB|MiB|GiB)")
SIZE_UNITS = {"KiB": KIB, "MiB": MIB, "GiB": GIB}


def _size(value: object) -> object:
    if isinstance(value, str) and (match := SIZE.fullmatch(value)):
        return int(match[1]) * SIZE_UNITS[match[2]]
    if isinstance(value, str):
        raise ValueError("expected a number of bytes, or a size such as 64MiB")
    return value


def _absolute(value: Path, info: ValidationInfo) -> Path:
    """Relative paths count from the file that names them: every command finds the same socket."""
    if not value.parts or "\0" in str(value):
        raise ValueError("expected a path")
    return Path((info.context or {}).get("base", Path.cwd())) / value


Count = Annotated[int, Strict(), Field(ge=1)]
Port = Annotated[int, Strict(), Field(ge=0, le=65535)]
Bytes = Annotated[int, Strict(), Field(ge=1), BeforeValidator(_size)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Seconds = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Ratio = Annotated[float, Strict(), Field(ge=0, le=1)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Section(BaseModel):
    """A mapping of the file: its keys are known, its values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        return {} if value is None else value  # `server:` with every line below commented out


Key = tuple[str, ...]


def leaves(section: type[Section], prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield each key that holds a value, as a path, with its pydantic field."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name), field
