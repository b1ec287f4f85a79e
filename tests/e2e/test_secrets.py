"""No token, password or key is in what a daemon logs, keeps, answers or tells."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import bcrypt
import pytest

from tests.certificates import Authority
from tests.e2e.daemon import Daemon

TOKEN = "tok3n-of-the-field"
WRONG_TOKEN = "wr0ng-token-of-a-guest"
PASSWORD = "passw0rd-of-prometheus"
WRONG_PASSWORD = "wr0ng-password-of-a-guest"


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """Write a token, a key and a password's hash; return all that nobody is to see."""
    Authority(tmp_path).issue("server")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: '{hashed}'}}\n")
    key = (tmp_path / "server.key").read_text().splitlines()
    return {
        "token": TOKEN,
        "wrong token": WRONG_TOKEN,
        "password": PASSWORD,
        "wrong password": WRONG_PASSWORD,
        "password's hash": hashed,
        "key": key[1],
        "last of the key": key[-2],
    }


@pytest.fixture
def guarded(daemon: Daemon, secrets: dict[str, str], digits: Path) -> Daemon:
    text = daemon.config.read_text()
    daemon.config.write_text(
        text.replace(
            "server: {",
            "server: {auth: {token_file: token}, metrics_web_config: web.yml, ",
        )
    )
    daemon.start({"EDGEQ_LOG_LEVEL": "debug"})
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    return daemon


def ask(url: str, authorization: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode() + str(error.headers)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()


def edgeq(daemon: Daemon, *arguments: str) -> str:
    command = [sys.executable, "-m", "edgeq", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def said(daemon: Daemon) -> dict[str, str]:
    """Return what people and machines get to see of a run in which doors were tried."""
    admin = f"http://127.0.0.1:{daemon.http_port}/edgeq"
    metrics = f"http://127.0.0.1:{daemon.metrics_port}/metrics"
    seen = {
        "admin, let in": ask(f"{admin}/status", f"Bearer {TOKEN}"),
        "admin, refused": ask(f"{admin}/history?name=digits", f"Bearer {WRONG_TOKEN}"),
        "metrics, let in": ask(metrics, basic(PASSWORD)),
        "metrics, refused": ask(metrics, basic(WRONG_PASSWORD)),
    }
    assert [seen[way][0] for way in ("metrics, let in", "metrics, refused")] == [200, 401]
    daemon.config.write_text(daemon.config.read_text() + "sever: {}\n")
    config = ("--config", str(daemon.config))
    texts = {way: text for way, (_, text) in seen.items()}
    texts["reload, refused"] = edgeq(daemon, "reload", *config)
    texts["check-config"] = edgeq(daemon, "check-config", str(daemon.config))
    texts["status"] = json.dumps(daemon.status())
    texts["doctor"] = edgeq(daemon, "doctor", "--json")
    daemon.stop()
    texts["log"] = "".join(daemon.log)
    return texts


def test_no_secret_is_in_any_answer_log_or_file(guarded: Daemon, secrets: dict[str, str]) -> None:
    texts = said(guarded)
    for path in (guarded.root / "state").rglob("*"):
        if path.is_file():
            texts[str(path)] = path.read_bytes().decode("latin-1")
    found = [
        (where, what)
        for where, text in texts.items()
        for what, secret in secrets.items()
        if secret in text
    ]
    assert found == []
    assert "configuration reloaded" not in texts["log"]
    assert "sever" in texts["reload, refused"]


def test_what_it_keeps_is_its_own_whatever_the_umask(daemon: Daemon, digits: Path) -> None:
    before = os.umask(0)
    try:
        daemon.start()
    finally:
        os.umask(before)
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    state = daemon.root / "state"
    modes = {p: p.stat().st_mode for p in (state, *state.rglob("*")) if not p.is_symlink()}
    files = {p: stat.S_IMODE(mode) for p, mode in modes.items() if not stat.S_ISSOCK(mode)}
    assert {p: oct(mode) for p, mode in files.items() if mode & 0o077} == {}
    assert stat.S_IMODE(modes[state / "edgeq.sock"]) == 0o660
    told = daemon.models / "digits.status.json"
    assert stat.S_IMODE(told.stat().st_mode) == 0o644
