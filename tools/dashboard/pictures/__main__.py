"""Plays the scene, draws the rows of the dashboard, and writes them as small PNGs."""

from __future__ import annotations

import argparse
import http.server
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser import Tab, find_browser, running
from tools.dashboard.pictures.scene import Scene, played

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
LIBRARY = ROOT / ".tools" / "grafana-panels"
DASHBOARD = ROOT / "configs" / "grafana" / "edgeq.json"
WIDTH = 1600
PAGE = """<!doctype html><meta charset="utf-8"><title>loading</title>
<link rel="stylesheet" href="/page.css"><div id="root"></div><script src="/page.js"></script>"""
# Picture -> the first row it shows, and the first that it does not.
PICTURES = {
    "overview": ("Overview", "Drift"),
    "drift": ("Drift", "Samples, builds and swaps"),
    "builds": ("Samples, builds and swaps", "Board"),
}


def build() -> Path:
    """Return the folder of page.js, made with Grafana's library."""
    LIBRARY.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "build.mjs", "page.jsx"):
        shutil.copy(HERE / name, LIBRARY / name)
    if not (LIBRARY / "node_modules").is_dir():
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(install, cwd=LIBRARY, check=True)
    subprocess.run(["node", "build.mjs"], cwd=LIBRARY, check=True)
    return LIBRARY / "out"


class Page(http.server.SimpleHTTPRequestHandler):
    """The page, the dashboard, and Prometheus' answers from one origin."""

    scene: Scene

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/api/v1/"):
            given = dict(urllib.parse.parse_qsl(query))
            self._answer(self.scene.prometheus.body(path.removeprefix("/api/v1/"), **given))
        elif path == "/edgeq.json":
            self._answer(DASHBOARD.read_bytes())
        elif path == "/":
            self._answer(PAGE.encode())
        else:
            super().do_GET()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(scene: Scene, folder: Path) -> Iterator[str]:
    """Serve the page of a scene; yields its address."""
    handler = partial(type("PageOfScene", (Page,), {"scene": scene}), directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def draw(tab: Tab, address: str, scene: Scene, name: str, theme: str, target: Path) -> None:
    """Draw one picture."""
    first, after = PICTURES[name]
    asked = {"start": scene.start, "end": scene.end, "from": first, "to": after, "width": WIDTH,
             "theme": theme}  # fmt: skip
    tab.open(f"{address}?{urllib.parse.urlencode(asked)}")
    tab.wait("document.title !== 'loading'", within_s=60)
    assert tab.run("document.title") == "ready", tab.run("document.title")
    tab.resize(WIDTH, int(tab.run("document.getElementById('board').offsetHeight")))
    tab.picture(target)
    # A palette is enough for lines on one ground, and half the size.
    with Image.open(target) as picture:
        small = picture.convert("RGB").quantize(
            256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
    small.save(target, optimize=True)
    print(f"{target}: {small.width}x{small.height}, {target.stat().st_size >> 10} kB")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="length of the scene")
    parser.add_argument("--out", type=Path, default=DASHBOARD.parent)
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--only", choices=sorted(PICTURES), nargs="*", default=sorted(PICTURES))
    options = parser.parse_args()
    browser = find_browser()
    assert browser is not None, "there is no Chromium"
    fetched = subprocess.run([ROOT / "tools/fetch_prometheus"], check=True, stdout=subprocess.PIPE)
    folder = build()
    with (
        tempfile.TemporaryDirectory() as work,
        played(Path(work), Path(fetched.stdout.decode().strip()), options.minutes) as scene,
        served(scene, folder) as address,
        running(browser, Path(work) / "browser") as chromium,
    ):
        for name in options.only:
            tab = Tab(chromium, width=WIDTH, height=1200)
            draw(tab, address, scene, name, options.theme, options.out / f"{name}.png")
            tab.close()


if __name__ == "__main__":
    main()
