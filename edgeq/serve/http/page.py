"""The status page: a document, the files it loads, and what it shows now, for those that are open.

An open page asks every 2 s. However many are open, the daemon looks once a second at most, on a
thread, and less often where a look takes long; the answers in between are bytes that are there,
and without a body where nothing changed.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from edgeq.errors import NotFoundError
from edgeq.observe.page import POLICY, Page
from edgeq.serve.http.content import accepts
from edgeq.serve.http.messages import JSON, Answer, Request
from edgeq.serve.http.router import Route
from edgeq.serve.http.threads import Threads

FRESH_S = 1.0
LOOKING_SHARE = 0.02  # of a core, at most
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
KEPT = {"Cache-Control": "max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
DOCUMENT = {**NO_STORE, "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True)
class _Look:
    """One look at the daemon."""

    until: float  # time.monotonic(), when it is to be looked again
    tag: str  # of what a page shows: another one shows something else
    body: bytes
    packed: bytes


class PageRoutes:
    """Used on the event loop only.

    Args:
        page: makes the document and its updates.
        status: looks at the daemon; called in a thread.
        threads: where it is called.
    """

    def __init__(self, page: Page, status: Callable[[], dict[str, Any]], threads: Threads) -> None:
        self._page = page
        self._status = status
        self._threads = threads
        self._look: _Look | None = None
        self._looking: asyncio.Task[_Look] | None = None

    def routes(self) -> list[Route]:
        """Return them in the order of matching."""
        return [
            Route("GET", "/", self.document),
            Route("GET", "/edgeq/page", self.update),
            Route("GET", "/edgeq/page/{file}", self.file),
        ]

    async def document(self, request: Request) -> Answer:
        """GET /."""
        html = await self._threads.run(lambda: self._page.html(self._status()).encode())
        return _packed(request, html, gzip.compress(html, 1), "text/html; charset=utf-8", DOCUMENT)

    def file(self, request: Request) -> Answer:
        """GET /edgeq/page/FILE; with its release as query it may be kept for good."""
        name = request.parameters["file"]
        found = self._page.files.get(name)
        if found is None:
            raise NotFoundError(f"the page has no file {name[:100]!r}")
        headers = KEPT if request.query == self._page.release else NO_STORE
        return Answer(200, (found.content,), found.media, headers)

    def update(self, request: Request) -> Answer | Awaitable[Answer]:
        """GET /edgeq/page?seen=TAG; 204 where what has this tag is still so."""
        look = self._look
        if look is not None and time.monotonic() < look.until:
            return _answer(request, look)
        return self._update(request)

    async def _update(self, request: Request) -> Answer:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_anew())
        # Shielded: a client that hangs up must not take the others' answer with it.
        return _answer(request, await asyncio.shield(self._looking))

    async def _look_anew(self) -> _Look:
        self._look = await self._threads.run(self._make)
        return self._look

    def _make(self) -> _Look:
        began = time.thread_time()
        update = self._page.update(self._status())
        shown = orjson.dumps({key: value for key, value in update.items() if key != "now"})
        tag = hashlib.sha256(shown).hexdigest()[:16]
        body = orjson.dumps({**update, "tag": tag})
        packed = gzip.compress(body, 1)
        fresh_s = max(FRESH_S, (time.thread_time() - began) / LOOKING_SHARE)
        return _Look(time.monotonic() + fresh_s, tag, body, packed)


def _answer(request: Request, look: _Look) -> Answer:
    if request.query_value("seen") == look.tag:
        return Answer(204, headers=NO_STORE)
    return _packed(request, look.body, look.packed, JSON, NO_STORE)


def _packed(
    request: Request, body: bytes, packed: bytes, media: str, headers: Mapping[str, str]
) -> Answer:
    """Answer with gzip where the client takes it."""
    if accepts(request.header(b"accept-encoding"), "gzip"):
        return Answer(200, (packed,), media, {**headers, "Content-Encoding": "gzip"})
    return Answer(200, (body,), media, headers)
