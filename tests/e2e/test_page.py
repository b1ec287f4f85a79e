"""The status page of a real daemon in a real browser."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.browser import Browser, Tab
from tests.e2e.daemon import Daemon

LIVE = "document.getElementById('as-of').textContent.startsWith('live')"
UNREACHABLE = "!document.getElementById('unreachable').hidden"


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_an_open_page_sees_swap_refusal_and_restart_without_a_reload(
    tmp_path: Path, digits: Path, browser: Browser
):
    daemon = Daemon(tmp_path, port=a_free_port())
    tab = Tab(browser)
    try:
        daemon.start()
        daemon.drop(digits / "digits.tflite", "digits")
        daemon.wait_served("digits", "float")
        tab.open(f"http://127.0.0.1:{daemon.http_port}/")
        tab.wait(LIVE)
        assert "version 1, float" in tab.text()
        tab.run("window.isSame = true; document.querySelector('#model-digits summary').focus()")

        daemon.drop(digits / "digits_v2.tflite", "digits")
        (daemon.models / "bad.tflite").write_bytes(b"not a model")
        daemon.wait_served("digits", not_version="1")
        daemon.wait("refused", lambda status: bool(status["quarantine"]))
        tab.wait("document.body.innerText.includes('version 2, float')")
        tab.wait("document.body.innerText.includes('1 drop refused')")
        assert tab.run("document.activeElement === document.querySelector('#model-digits summary')")
        assert tab.complaints() == []
        assert {url.split("/")[2] for url in tab.requests()} == {f"127.0.0.1:{daemon.http_port}"}

        daemon.stop()
        tab.run("document.dispatchEvent(new Event('visibilitychange'))")  # at once, not in 2 s
        tab.wait(UNREACHABLE)
        assert "version 2, float" in tab.text()
        daemon.start()
        tab.run("document.getElementById('try-now').click()")
        tab.wait(f"!({UNREACHABLE})")
        assert "version 2, float" in tab.text()
        assert tab.run("window.isSame")
    finally:
        tab.close()
        daemon.close()
