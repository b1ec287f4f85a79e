"""Commands run in this process, a small bundle, and a daemon that answers what a test wants."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from edgeq.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout; anything else there is an error."""
        result = json.loads(self.out)
        assert isinstance(result, dict)
        assert self.out.count("\n") == 1
        return result


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EDGEQ_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def edgeq(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


# ---- models, samples, bundles


@pytest.fixture(scope="session")
def model(digits: Path) -> Path:
    return digits / "digits.tflite"


@pytest.fixture(scope="session")
def samples(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 48 images in one stack."""
    folder = tmp_path_factory.mktemp("samples")
    with np.load(digits / "digits_samples.npz") as arrays:
        np.savez(folder / "images.npz", x=arrays["x"][:48])
    return folder


@pytest.fixture(scope="session")
def labelled(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "test.npz"
    with np.load(digits / "digits_samples.npz") as arrays:
        np.savez(path, x=arrays["x"][-100:], y=arrays["y"][-100:])
    return path


@pytest.fixture(scope="session")
def bundle(model: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "digits.bundle"
    flags = ["--method", "entropy", "--out", str(out), "--progress", "none"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["build", str(model), "--samples", str(samples), *flags]) == 0
    return out


# ---- a daemon


@dataclass
class FakeDaemon:
    """Answers by path; remembers what it was asked."""

    token: str | None = None
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    socket: Path = Path()
    url: str = ""

    @property
    def asked(self) -> list[tuple[str, Any]]:
        """Path and JSON arguments of each command."""
        return [(path, json.loads(body or b"null")) for _, path, _, body in self.requests]

    def answer(self, path: str, headers: Any) -> tuple[int, Any]:
        if self.token is not None and headers.get("Authorization") != f"Bearer {self.token}":
            return 403, {"error": "the command needs a token", "hint": "Set EDGEQ_TOKEN."}
        return self.answers.get(path, (404, {"error": f"{path} is unknown"}))

    @contextlib.contextmanager
    def behind_tls(self, context: ssl.SSLContext) -> Iterator[str]:
        """Serve over TLS, too; yields the URL."""
        server = HTTPServer(("127.0.0.1", 0), _handler(self))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with _serving(server):
            yield f"https://127.0.0.1:{server.server_port}"


def _handler(daemon: FakeDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            daemon.requests.append((self.command, self.path, dict(self.headers), body))
            code, answer = daemon.answer(urlsplit(self.path).path, self.headers)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class UnixServer(socketserver.UnixStreamServer):
    pass


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    """The same fake daemon on a Unix socket and on TCP."""
    fake = FakeDaemon()
    folder = tmp_path_factory.mktemp("d")
    fake.socket = folder / "edgeq.sock"
    handler = _handler(fake)
    tcp = HTTPServer(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{tcp.server_port}"
    with _serving(tcp), _serving(UnixServer(str(fake.socket), handler)):
        yield fake
    shutil.rmtree(folder)


@pytest.fixture
def config(daemon: FakeDaemon) -> Path:
    """A configuration whose state folder holds the fake daemon's socket."""
    path = daemon.socket.parent / "edgeq.yaml"
    path.write_text(f"state_dir: {daemon.socket.parent}\n")
    return path
