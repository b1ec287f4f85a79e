"""Chromium without a window, over the DevTools protocol on two pipes: no package is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_S = 15.0
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--metrics-recording-only", "--lang=en-US",
)  # fmt: skip
# name -> DevTools' key, code and what it types
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "Space": (" ", 32, " ")}


def find_browser() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One process; `Tab`s are made of it."""

    def __init__(self, path: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, self._write = os.pipe()
        self._read = ours_in
        # Chromium reads from 3 and writes to 4, whatever numbers the pipes have here.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", script, "browser", path, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers = itertools.count(1)
        self._received = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def problem(self) -> str:
        """Return why it cannot be used, "" where it can."""
        try:
            self.call("Browser.getVersion")
        except (AssertionError, OSError) as error:
            return str(error)
        return ""

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Return what a method gives; AssertionError where it fails or takes too long."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while number not in self._answers:
            assert time.monotonic() < deadline, f"{method}: no answer"
            self.hear(0.1)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def hear(self, seconds: float) -> None:
        """Take in what the browser says, waiting so long for it at most."""
        if not select.select([self._read], [], [], seconds)[0]:
            return
        chunk = os.read(self._read, 1 << 20)
        assert chunk, "the browser has ended"
        *messages, self._received = (self._received + chunk).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)

    def close(self) -> None:
        """End it."""
        os.close(self._write)  # which it takes for its end
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._read)


class Tab:
    """One page of a browser, as wide as it is told."""

    def __init__(self, browser: Browser, *, width: int = 1280, height: int = 800) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._target, self._session = target, attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol."""
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int = 800, scale: float = 1.0) -> None:
        """Give the page another size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=width < 600)  # fmt: skip

    def set_scheme(self, scheme: str) -> None:
        """Prefer light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, url: str) -> None:
        """Load a page, scripts and all."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True, userGesture=True)  # fmt: skip
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str, *, within_s: float = WAIT_S) -> Any:
        """Return the value of an expression once it is true."""
        return self.until(lambda: self.run(script), script, within_s=within_s)

    def until(self, is_so: Callable[[], Any], what: str, *, within_s: float = WAIT_S) -> Any:
        """Return what is no more false; AssertionError where that takes too long."""
        deadline = time.monotonic() + within_s
        while not (value := is_so()):
            assert time.monotonic() < deadline, f"not seen: {what}\n{self.text()[:3000]}"
            self._browser.hear(0.05)
        return value

    def text(self) -> str:
        """Return what is to be read."""
        return str(self.run("document.body.innerText"))

    def press(self, name: str) -> None:
        """Press a key and let it go."""
        key, number, typed = KEYS[name]
        known = {"key": key, "code": name, "windowsVirtualKeyCode": number}
        kind = "keyDown" if typed else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, text=typed, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def picture(self, path: Path) -> None:
        """Write all of the page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def events(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of all events of this kind until now."""
        self._browser.hear(0)
        return [
            event["params"]
            for event in self._browser.events
            if event["method"] == method and event.get("sessionId") == self._session
        ]

    def requests(self) -> list[str]:
        """Return the URLs of all that was asked for."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Return what the console says: errors, warnings, what the policy refused."""
        thrown = self.events("Runtime.exceptionThrown")
        said = self.events("Runtime.consoleAPICalled")
        logged = [event["entry"] for event in self.events("Log.entryAdded")]
        return [json.dumps(each) for each in (*thrown, *said, *logged)]

    def close(self) -> None:
        """End the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextmanager
def running(path: str, profile: Path) -> Iterator[Browser]:
    """Run a browser."""
    browser = Browser(path, profile)
    try:
        yield browser
    finally:
        browser.close()
