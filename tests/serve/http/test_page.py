"""The status page: its document, its files, and the updates of the ones that are open."""

from __future__ import annotations

import gzip
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgeq.serve.http import page
from edgeq.serve.http.page import FRESH_S
from edgeq.serve.rights import Rights

GZIP = {"Accept-Encoding": "gzip"}


def test_the_document_forbids_all_that_is_inline_or_from_elsewhere(running: Any) -> None:
    answer = running.request("GET", "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body.startswith(b"<!doctype html>")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_files_it_names_are_there_and_may_be_kept(running: Any) -> None:
    html = running.request("GET", "/").body.decode()
    places = re.findall(r'(?:src|href)="(/edgeq/page/[^"]+)"', html)
    media = {}
    for place in places:
        answer = running.request("GET", place)
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]
        media[place.split("?")[0]] = answer.headers["content-type"].split(";")[0]
        stale = running.request("GET", f"{place.split('?')[0]}?other")
        assert stale.headers["cache-control"] == "no-store"
    assert sorted(media.values()) == ["image/svg+xml", "text/css", "text/javascript"]


@pytest.mark.parametrize("name", ["page.py", "document.py", "..%2Fpage.css", "__init__.py"])
def test_there_are_no_other_files(running: Any, name: str) -> None:
    assert running.request("GET", f"/edgeq/page/{name}").status == 404


def test_what_is_seen_already_is_not_sent_again(running: Any) -> None:
    first = running.request("GET", "/edgeq/page").json()
    assert first["title"]
    again = running.request("GET", f"/edgeq/page?seen={first['tag']}")
    assert (again.status, again.body) == (204, b"")
    assert running.request("GET", "/edgeq/page?seen=other").json() == first
    running.admin.changes = {"started": 1.0}
    time.sleep(FRESH_S)
    changed = running.request("GET", f"/edgeq/page?seen={first['tag']}").json()
    assert changed["tag"] != first["tag"]


def test_gzip_is_sent_to_whoever_takes_it(running: Any) -> None:
    for path in ("/", "/edgeq/page"):
        plain, packed = (running.request("GET", path, None, h) for h in ({}, GZIP))
        assert packed.headers["content-encoding"] == "gzip"
        assert plain.headers["content-encoding"] is None
        assert len(packed.body) < len(plain.body)
    update = running.request("GET", "/edgeq/page", None, GZIP)
    assert json.loads(gzip.decompress(update.body))["title"]
    refused = running.request("GET", "/edgeq/page", None, {"Accept-Encoding": "gzip;q=0"})
    assert refused.headers["content-encoding"] is None


def test_many_open_pages_make_the_daemon_look_once(running: Any) -> None:
    with ThreadPoolExecutor(8) as pages:
        asked = [pages.submit(running.request, "GET", "/edgeq/page") for _ in range(40)]
        assert {answer.result().status for answer in asked} == {200}
    assert running.admin.looks <= 2  # a second may have passed


def test_a_look_that_takes_long_is_shown_for_longer(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "FRESH_S", 0.0)
    monkeypatch.setattr(page, "LOOKING_SHARE", 1e-9)
    assert {running.request("GET", "/edgeq/page").status for _ in range(5)} == {200}
    assert running.admin.looks == 1


def test_a_look_that_fails_is_an_answer_and_the_next_looks_anew(running: Any) -> None:
    running.admin.error = RuntimeError("bug")
    assert running.request("GET", "/edgeq/page").status == 500
    assert running.request("GET", "/").status == 500
    running.admin.error = None
    assert running.request("GET", "/edgeq/page").status == 200


def test_strangers_see_neither_the_page_nor_its_updates(start: Any) -> None:
    running = start(rights=Rights("swordfish", is_exposed=True))
    for path in ("/", "/edgeq/page", "/edgeq/page/page.js"):
        assert running.request("GET", path).status == 401
        assert running.request("GET", path, unix=True).status == 200
