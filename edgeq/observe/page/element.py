"""Tags, attributes and texts -> a tree that is sent as HTML once, and as JSON from then on.

One tree for both: what a browser without scripts shows and what a live page is brought up to are
the same, and a text from outside cannot become markup in either.
"""

from __future__ import annotations

from html import escape
from typing import Any

# A tag, its attributes and what is inside: as JSON an array of three, which page.js reads.
Element = tuple[str, dict[str, str], list[Any]]
Node = Element | str
Nodes = Node | list[Any] | None

VOID = frozenset({"meta", "link", "br", "hr", "wbr"})
NARROW = "\N{NARROW NO-BREAK SPACE}"  # between a figure and its unit


def element(tag: str, *children: Nodes, **attributes: str | float | bool | None) -> Element:
    """Return an element; lists are taken as their items, None and False are left out.

    An attribute's name has `-` for each `_`; one at its end, for Python's words, is dropped.
    """
    given = {}
    for name, value in attributes.items():
        if value is not None and value is not False:
            key = name.rstrip("_").replace("_", "-") if "_" in name else name
            given[key] = "" if value is True else printable(str(value))
    return (tag, given, _flat(children))


def _flat(children: tuple[Nodes, ...] | list[Any]) -> list[Any]:
    nodes: list[Any] = []
    for child in children:
        if isinstance(child, str):
            if child:
                nodes.append(child if child.isprintable() else printable(child))
        elif isinstance(child, list):
            nodes.extend(_flat(child))
        elif child is not None:
            nodes.append(child)
    return nodes


def to_html(node: Node) -> str:
    """Return the markup, every text and attribute escaped."""
    if isinstance(node, str):
        return escape(node, quote=False)
    tag, attributes, children = node
    given = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    if tag in VOID:
        return f"<{tag}{given}>"
    return f"<{tag}{given}>{''.join(map(to_html, children))}</{tag}>"


def printable(text: str) -> str:
    """Return the text without what could reorder or hide what stands beside it."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == NARROW else "\N{REPLACEMENT CHARACTER}" for c in text
    )
