"""LiteRT's generated flatbuffer API -> edgeq/tflite/schema_tables.py, its tables in short.

Run with ai-edge-litert installed: python tools/make_schema.py
The generated API has one `<Table>Add<Field>` function a field, which says slot, type and default;
the reader class says what an offset leads to.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as api

TARGET = Path(__file__).parents[1] / "edgeq" / "tflite" / "schema_tables.py"
SLOT = re.compile(r"builder\.Prepend(\w+)Slot\((\d+), .*, (\S+)\)$", re.MULTILINE)
HEADER = '''"""The TFLite schema as LiteRT {version} has it, in short: made by tools/make_schema.py.

Source: google-ai-edge/LiteRT, tflite/converter/schema/schema.fbs (Apache-2.0).
TABLES: table -> its fields in the order of their slots, each `name:type` and `=default` where that
is not 0. A type is a scalar, `string`, a table, `[element]` or `|union`, whose number is in the
field before it; `-` is a slot that no longer means anything.
ENUMS: enum or union -> its names, numbered from 0 unless `=number` says otherwise.
"""

from __future__ import annotations
'''


def tables() -> dict[str, str]:
    """Return every table's fields in short."""
    names = [n[:-1] for n, v in vars(api).items() if inspect.isclass(v) and n.endswith("T")
             and hasattr(getattr(api, n[:-1], None), "Init")]  # fmt: skip
    return {name: " ".join(_fields(name)) for name in sorted(names)}


def enums() -> dict[str, str]:
    """Return every enum's names in short; the numbers rise, but may leave some out."""
    result = {}
    for name, value in vars(api).items():
        if inspect.isclass(value) and not name.endswith("T") and not hasattr(value, "Init"):
            result[name] = " ".join(_members(value))
    return dict(sorted(result.items()))


def _members(enum: type) -> list[str]:
    members = [(number, name) for name, number in vars(enum).items() if isinstance(number, int)]
    words, expected = [], 0
    for number, name in sorted(members):
        words.append(name if number == expected else f"{name}={number}")
        expected = number + 1
    return words


def _fields(table: str) -> list[str]:
    slots: dict[int, str] = {}
    for attribute in vars(getattr(api, f"{table}T")()):
        adder = getattr(api, f"{table}Add{attribute[0].upper()}{attribute[1:]}")
        kind, slot, default = SLOT.search(inspect.getsource(adder)).groups()  # type: ignore[union-attr]
        if kind == "UOffsetTRelative":
            slots[int(slot)] = f"{attribute}:{_target(table, attribute)}"
        else:
            slots[int(slot)] = f"{attribute}:{kind.lower()}" + _default(default)
    return [slots.get(slot, "-") for slot in range(max(slots, default=-1) + 1)]


def _default(text: str) -> str:
    return "" if float(text) == 0 else f"={text}"


def _target(table: str, attribute: str) -> str:
    method = f"{attribute[0].upper()}{attribute[1:]}"
    reader: Any = getattr(api, table)
    source = inspect.getsource(getattr(reader, method))
    if hasattr(reader, f"{method}AsNumpy"):
        flags = re.search(r"Get\(flatbuffers\.number_types\.(\w+)Flags", source)
        return f"[{flags[1].lower()}]"  # type: ignore[index]
    if "_tab.Union" in source:
        return "|" + _union(table, attribute)
    if "_tab.String" in source:
        return "string"
    target = re.search(r"obj = (\w+)\(\)", source)[1]  # type: ignore[index]
    return f"[{target}]" if hasattr(reader, f"{method}Length") else target


def _union(table: str, attribute: str) -> str:
    """Return the union whose creator unpacks the field."""
    source = inspect.getsource(getattr(api, f"{table}T")._UnPack)
    return str(re.search(rf"self\.{attribute} = (\w+)Creator\(", source)[1])  # type: ignore[index]


def _literal(name: str, entries: dict[str, str]) -> str:
    lines = [f"{name}: dict[str, str] = {{"]
    for key, value in entries.items():
        if len(f'    "{key}": "{value}",') <= 100:
            lines.append(f'    "{key}": "{value}",')
            continue
        lines.append(f'    "{key}": """')
        lines += textwrap.wrap(value, 95, initial_indent="        ", subsequent_indent="        ",
                               break_long_words=False, break_on_hyphens=False)  # fmt: skip
        lines.append('    """,')
    return "\n".join([*lines, "}"])


if __name__ == "__main__":
    parts = [HEADER.format(version=metadata.version("ai-edge-litert")).rstrip(),
             _literal("TABLES", tables()), _literal("ENUMS", enums())]  # fmt: skip
    TARGET.write_text("\n\n".join(parts) + "\n")
