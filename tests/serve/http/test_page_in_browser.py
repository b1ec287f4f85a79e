"""The status page in a real browser, before a daemon that says what the test wants."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from edgeq.observe.page import Page
from edgeq.serve.http import page
from tests.browser import Browser, Tab
from tests.observe.statuses import (
    a_drift,
    a_model,
    a_refusal,
    a_series,
    a_status,
    a_stream,
    a_version,
    an_event,
)

LONG = "a_tensor/of_a_name/that_is_longer_than_a_phone_is_wide/and_then_some/more/Conv2D_12;relu"
HOSTILE = "<img src=x onerror=document.title='bad'>"
LIVE = "document.getElementById('as-of')?.textContent.startsWith('live')"
ASK = "document.dispatchEvent(new Event('visibilitychange'))"  # at once, not in 2 s


def a_busy_box(**changes: Any) -> dict[str, Any]:
    """A bit of everything."""
    now = time.time()
    points = [(now - 10 * n, "2" if n < 60 else "1", "float", 50, 0.5, 1.5) for n in range(90)]
    swaps = [{"time": now - 600, "version": "2", "engine": "cpu-int8"}]
    streams = [a_stream(f"{LONG}{number}", psi=number / 50) for number in range(9)]
    health = {"tensor": LONG, "frames": 9, "faults": {"too_dark": 3}, "identical_s": 0.0}
    reason = f"{LONG}: darker, PSI 0.61 > 0.09"
    drift = a_drift(*streams, active=True, reason=reason, health=[health])
    models = {
        "face": a_model(drift=drift, series=a_series(*reversed(points), swaps=swaps)),
        "hand": a_model(state="building", build={"cause": "drift"},
                        progress={"stage": "calibrate", "done": 3, "total": 48}),
        "a_model_of_a_long_name_that_somebody_dropped_once_2026_11_23": a_model(reason=HOSTILE),
    }  # fmt: skip
    known = {
        "events": [an_event(number, message=f"{HOSTILE} {LONG}") for number in range(20)],
        "quarantine": [a_refusal(error=HOSTILE, hint=LONG)],
    }
    return {**a_status(**models), "now": now, **known, **changes}


@pytest.fixture
def opened(running: Any, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tab]:
    """The page, open and live, before a daemon that looks at every request."""
    monkeypatch.setattr(page, "FRESH_S", 0.0)
    monkeypatch.setattr(page, "LOOKING_SHARE", float("inf"))
    running.admin.changes = a_busy_box()
    tab = Tab(browser)
    tab.open(f"http://{running.address}/")
    tab.wait(LIVE)
    yield tab
    tab.close()


def test_everything_is_shown_without_a_complaint_and_nothing_of_it_runs(
    running: Any, opened: Tab
) -> None:
    text = opened.text()
    for part in ("calibrate 3 of 48", "PSI 0.160", "darker, PSI 0.61", HOSTILE, "8 older"):
        assert part in text
    assert opened.run("document.querySelectorAll('img, [onerror]').length") == 0
    assert opened.run("document.title").startswith("3 of 3 models served")
    assert opened.complaints() == []
    assert all(url.startswith(f"http://{running.address}/") for url in opened.requests())


def test_an_update_changes_what_differs_and_leaves_what_the_reader_does(
    running: Any, opened: Tab
) -> None:
    opened.run("""
        window.kept = [...document.querySelectorAll('article, details, tr')].filter(
            (node) => !node.closest('.events'));
        const fold = document.getElementById('model-face-commands');
        fold.open = true;
        fold.querySelector('button').focus();
        getSelection().selectAllChildren(document.querySelector('#model-face .drift .reason'));
        window.selected = getSelection().toString();
    """)
    models = {**a_busy_box()["models"], "aaa": a_model(), "face": a_model(
        live={"version": "4", "engine": "cuda-int8", "since": 0.0, "method": "mse"},
        drift=a_busy_box()["models"]["face"]["drift"],
        versions=[a_version("4"), a_version("3", state="retired"), a_version("2")])}  # fmt: skip
    events = [an_event(-1, message="swapped"), *a_busy_box()["events"]]
    running.admin.changes = a_busy_box(models=models, events=events)
    opened.run(ASK)
    opened.wait("document.body.innerText.includes('version 4, cuda-int8')")
    assert opened.run("window.kept.every((node) => node.isConnected)")
    assert opened.run("document.activeElement.dataset.copy") == "edgeq rollback face"
    assert opened.run("document.getElementById('model-face-commands').open")
    assert opened.run("getSelection().toString() === window.selected")
    first = "document.querySelector('main article h2 span').textContent"
    assert opened.run(first) == "a_model_of_a_long_name_that_somebody_dropped_once_2026_11_23"
    newest = "document.querySelector('.events tbody tr').innerText"
    assert "swapped" in opened.run(newest)
    assert "face: serving, version 4 on cuda-int8" in opened.run(
        "document.querySelector('[aria-live]').textContent"
    )
    assert opened.complaints() == []


def test_the_keyboard_reaches_all_that_can_be_used_in_order_and_visibly(opened: Tab) -> None:
    opened.run("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    opened.run("""window.usable = [...document.querySelectorAll(
        'a[href], button, summary, [tabindex="0"]')].filter((node) => node.checkVisibility())""")
    count = opened.run("window.usable.length")
    assert count > 30
    reached = []
    for _ in range(count):
        opened.press("Tab")
        reached.append(opened.run("window.usable.indexOf(document.activeElement)"))
        assert opened.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == list(range(count))


def test_a_fold_opens_by_the_keyboard(opened: Tab) -> None:
    opened.run("document.querySelector('#model-face-commands summary').focus()")
    opened.press("Enter")
    assert opened.run("document.getElementById('model-face-commands').open")
    opened.press("Space")
    assert not opened.run("document.getElementById('model-face-commands').open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(opened: Tab, width: int, scheme: str) -> None:
    opened.set_scheme(scheme)
    opened.resize(width)
    opened.run("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    assert opened.run("document.documentElement.scrollWidth") <= width
    wide = """[...document.querySelectorAll('body *')].filter((node) =>
        !node.closest('.scroll, .heard, svg') && node.getBoundingClientRect().right > %d)
        .map((node) => node.outerHTML.slice(0, 200))"""
    assert opened.run(wide % width) == []


def test_all_text_stands_out_from_what_is_behind_it(opened: Tab) -> None:
    for scheme in ("light", "dark"):
        opened.set_scheme(scheme)
        assert opened.run(LEAST_CONTRAST) >= 4.5  # WCAG 2, AA


# The least contrast of any text with the nearest background that is not transparent.
LEAST_CONTRAST = """(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (node) => {
    for (; node; node = node.parentElement) {
      const color = channels(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter((node) =>
    [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) &&
    node.checkVisibility() && !node.closest('svg'));
  return Math.min(...texts.map((node) => {
    const pair = [channels(getComputedStyle(node).color), back(node)].map(luminance);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }));
})()"""


def test_a_page_that_nobody_sees_asks_nothing(opened: Tab) -> None:
    asked = """performance.getEntriesByType('resource')
        .filter((entry) => entry.name.includes('seen=')).length"""
    show = """Object.defineProperty(document, 'hidden', { value: %s, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'))"""
    opened.run(show % "true")
    before = opened.run(asked)
    opened.run("new Promise((done) => setTimeout(done, 2200))")
    assert opened.run(asked) == before
    opened.run(show % "false")
    opened.wait(f"({asked}) > {before}")


def test_a_daemon_that_refuses_is_said_to_and_asked_again(running: Any, opened: Tab) -> None:
    running.admin.error = RuntimeError("bug")
    opened.run(ASK)
    opened.wait("!document.getElementById('unreachable').hidden")
    assert "it answers 500" in opened.text()
    assert opened.run("document.getElementById('as-of').textContent").startswith("as of ")
    running.admin.error = None
    opened.run("document.getElementById('try-now').focus()")
    opened.press("Enter")
    opened.wait("document.getElementById('unreachable').hidden")


def test_a_page_of_another_release_loads_itself_anew(running: Any, opened: Tab) -> None:
    opened.run("window.isOld = true; document.body.dataset.release = 'older'")
    running.admin.changes = a_busy_box(started=5.0)
    opened.run(ASK)
    opened.wait(f"window.isOld === undefined && {LIVE}")
    assert opened.run("document.body.dataset.release") == Page().release


def test_without_scripts_all_is_there_to_be_read(running: Any, browser: Browser) -> None:
    running.admin.changes = a_busy_box()
    tab = Tab(browser)
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(f"http://{running.address}/")
    text = tab.text()
    for part in ("calibrate 3 of 48", "PSI 0.160", "edgeq 1.2.3"):
        assert part in text
    assert "Copy" not in text
    assert "Try now" not in text
    tab.close()
