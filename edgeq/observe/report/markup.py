"""Words and figures -> escaped HTML: tables, lists of facts, folded parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from edgeq.observe.charts.marks import printable

SCROLLED = '<div class="scroll" tabindex="0" role="group" aria-label="table">'  # to be closed
NOTHING = "\N{EN DASH}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a table: a name, then figures."""
    head = "".join(_cell("th", i, cell, ' scope="col"') for i, cell in enumerate(header))
    body = "".join(
        "<tr>" + "".join(_body_cell(i, cell) for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    above = f"<caption>{printable(caption)}</caption>" if caption else ""
    return (
        f"{SCROLLED}<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _body_cell(column: int, text: str) -> str:
    return _cell("td", column, text) if column else _cell("th", 0, text, ' scope="row"')


def _cell(kind: str, column: int, text: str, scope: str = "") -> str:
    css = ' class="n"' if column else ""
    return f"<{kind}{css}{scope}>{printable(text)}</{kind}>"


def facts(values: Mapping[str, str]) -> str:
    """Return names and what they are, without those that are empty."""
    rows = "".join(
        f"<dt>{printable(name)}</dt><dd>{printable(value)}</dd>"
        for name, value in values.items()
        if value
    )
    return f"<dl>{rows}</dl>"


def dim(text: str) -> str:
    """Return a quiet paragraph of a text that is not escaped yet."""
    return f'<p class="dim">{printable(text)}</p>'


def folded(summary: str, content: str, *, is_open: bool = False) -> str:
    """Return markup that a reader can open; `summary` is a text."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{printable(summary)}</summary>{content}</details>"


def figure(picture: str, caption: str, css: str = "") -> str:
    """Return a picture under its caption, a text."""
    kind = f' class="{css}"' if css else ""
    return f"<figure{kind}><figcaption>{printable(caption)}</figcaption>{picture}</figure>"


def several(value: Any) -> list[Any]:
    """Return a JSON list, or nothing where it is none."""
    return list(value) if isinstance(value, list | tuple) else []


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def formatted(value: Any, form: str) -> str:
    """Return a number in its form; what is none, as it is."""
    if is_number(value):
        return format(value, form)
    return NOTHING if value is None else str(value)


def clipped(ratio: float) -> str:
    """Return how much of a tensor is clipped, so that little is told from none."""
    if ratio == 0.0:
        return "none"
    return "< 0.001%" if ratio < 1e-5 else f"{ratio:.3%}"


def size(count: int) -> str:
    """Return bytes as people read them."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.0f} kB" if count >= 1000 else f"{count} bytes"
