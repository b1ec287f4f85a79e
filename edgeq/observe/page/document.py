"""The JSON of `GET /edgeq/status` -> the status page: a document, or what a live one shows now."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from edgeq.observe.page.element import Element, element, to_html
from edgeq.observe.page.model import card
from edgeq.observe.page.overview import attention, headline, states, summary
from edgeq.observe.page.words import badge, command, moment, plural, row, table

EVENTS_SHOWN = 12  # the older ones are folded away
ENTRIES_SHOWN = 5  # of the quarantine
FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline: even markup that got in could run and load nothing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Status = Mapping[str, Any]


@dataclass(frozen=True)
class PageFile:
    """A file that the page loads."""

    media: str
    content: bytes


class Page:
    """The page and its files, read once."""

    def __init__(self) -> None:
        folder = resources.files(__package__)
        self.files = {
            name: PageFile(media, folder.joinpath(name).read_bytes())
            for name, media in FILES.items()
        }

    @cached_property
    def release(self) -> str:
        """What a live page was made by; one of another release loads itself anew."""
        contents = b"".join(file.content for file in self.files.values())
        return hashlib.sha256(contents).hexdigest()[:12]

    def html(self, status: Status) -> str:
        """Return the document; it needs no scripts, which only keep it up to date."""
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", _title(status)),
            element("link", rel="icon", href=self._place("icon.svg")),
            element("link", rel="stylesheet", href=self._place("page.css")),
            element("script", src=self._place("page.js"), type="module"),
            element("noscript", element("meta", http_equiv="refresh", content="10")),
        )
        body = element(
            "body",
            _unreachable(),
            element(
                "header",
                element("h1", "edgeq"),
                element("p", "as of ", moment(status["now"]), class_="dim", id="as-of"),
                class_="top",
            ),
            body_of(status),
            element("p", id="said", class_="heard", aria_live="polite"),
            data_release=self.release,
        )
        return f"<!doctype html>\n{to_html(element('html', head, body, lang='en'))}\n"

    def update(self, status: Status) -> dict[str, Any]:
        """Return what a live page is brought up to, as JSON can hold it."""
        return {
            "release": self.release,
            "now": round(status["now"], 1),
            "title": _title(status),
            "states": states(status),
            "body": body_of(status),
        }

    def _place(self, name: str) -> str:
        return f"/edgeq/page/{name}?{self.release}"


def _title(status: Status) -> str:
    return f"{headline(status)} \N{EN DASH} edgeq"


def body_of(status: Status) -> Element:
    """Return all that changes."""
    return element(
        "div",
        element(
            "main",
            element("p", headline(status), class_="headline"),
            attention(status),
            summary(status),
            _cards(status) or _empty(),
            _events(status["events"]),
            _quarantine(status["quarantine"]),
        ),
        element("footer", _footer(status)),
        id="page",
    )


def _cards(status: Status) -> list[Element]:
    cards = []
    for name, model in sorted(status["models"].items()):
        cards.append(card(name, model, status["now"]))
        # A card takes 0.6 ms, and the thread that serves may want its turn: one that wakes all the
        # time was late by 2.4 to 4.9 ms (p99) beside this, by 5.5 to 11.7 without the pause.
        time.sleep(0)
    return cards


def _unreachable() -> Element:
    """What scripts show while the daemon does not answer."""
    return element(
        "div",
        element("p", id="unreachable-text"),
        element("button", "Try now", type="button", id="try-now"),
        id="unreachable",
        role="alert",
        hidden=True,
    )


def _empty() -> Element:
    return element("p", "No model yet: drop a .tflite file into the folder of models.")


def _footer(status: Status) -> list[Any]:
    return [
        element(
            "p",
            "Commands reach the daemon over its socket: run them on the box, with its "
            "--config or $EDGEQ_CONFIG.",
        ),
        element(
            "p",
            f"edgeq {status['edgeq']}, up since ",
            moment(status["started"]),
            ". ",
            element("a", "The same as JSON", href="/edgeq/status"),
        ),
    ]


def _events(events: Sequence[Status]) -> Element:
    shown = [_event(each) for each in events]
    header = ("when", "model", "version", "what", "")
    parts: list[Any] = [element("p", "None.", class_="dim")]
    if shown:
        parts = [table("Events, the newest first", header, shown[:EVENTS_SHOWN], class_="events")]
    if older := shown[EVENTS_SHOWN:]:
        fold = element("summary", f"{len(older)} older")
        rows = table("Older events", header, older, class_="events")
        parts.append(element("details", fold, rows, id="events-older"))
    return _section("events", "Events", parts)


def _event(event: Status) -> Element:
    key = f"{event['time']}-{event['name']}-{event['kind']}"
    version = "" if event["version"] is None else str(event["version"])
    return row(
        key,
        moment(event["time"]),
        event["name"],
        version,
        event["kind"].replace("_", " "),
        event["message"],
    )


def _quarantine(entries: Sequence[Status]) -> Element:
    parts: list[Any] = [element("p", "None.", class_="dim")]
    listed = [_entry(each) for each in entries]
    if listed:
        counted = plural(len(listed), "drop")
        said = f"{counted} refused; a file that is mended is simply dropped again."
        newest = element("ul", listed[:ENTRIES_SHOWN], class_="entries")
        parts = [element("p", said, class_="dim"), newest]
    if older := listed[ENTRIES_SHOWN:]:
        fold = element("summary", f"{len(older)} older")
        rows = element("ul", older, class_="entries")
        parts.append(element("details", fold, rows, id="quarantine-older"))
    return _section("quarantine", "Quarantine", parts)


def _entry(entry: Status) -> Element:
    return element(
        "li",
        element(
            "p",
            element("strong", entry["name"]),
            " ",
            badge(entry["stage"], "bad"),
            " ",
            moment(entry["time"]),
        ),
        element("p", entry["error"], class_="reason"),
        element("p", entry["hint"]) if entry["hint"] else None,
        element(
            "details",
            element("summary", "What you can do"),
            element(
                "ul",
                [
                    element("li", command(f"edgeq quarantine {action} {entry['id']}"))
                    for action in ("show", "retry", "rm")
                ],
                class_="commands",
            ),
            id=f"quarantine-{entry['id']}",
        ),
        data_key=entry["id"],
    )


def _section(key: str, title: str, parts: list[Any]) -> Element:
    return element(
        "section",
        element("h2", title, id=f"{key}-title"),
        parts,
        id=key,
        aria_labelledby=f"{key}-title",
    )
