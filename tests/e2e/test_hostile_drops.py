"""Somebody who may write to the drop folder, and nothing else, gains nothing by it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq.intake.names import safe_name
from tests.e2e.daemon import Daemon, infer

SECRET = b"root:x:0:0: a line that nobody else may read\n"
ESCAPE = "bad\nname\x1b[31m"


@pytest.fixture
def serving(daemon: Daemon, digits: Path) -> Daemon:
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    return daemon


def is_served(daemon: Daemon, images: np.ndarray) -> bool:
    version, _ = infer(daemon.triton(), "digits", "image", images[:1], "scores")
    return version == "1"


def stages(daemon: Daemon, names: set[str]) -> dict[str, str]:
    """Wait until each of these names is in quarantine; return the stages of all that are there."""
    status = daemon.wait(
        f"{names} refused", lambda s: names <= {entry["name"] for entry in s["quarantine"]}
    )
    return {entry["name"]: entry["stage"] for entry in status["quarantine"]}


def bind(path: Path) -> None:
    """Leave a socket there; its path is too long for the usual way."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def test_what_is_no_file_is_refused_and_nothing_from_outside_comes_in(
    serving: Daemon, tmp_path: Path, digits: Path, images: np.ndarray
):
    models, secret = serving.models, tmp_path / "secret.tflite"
    secret.write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    shutil.copy(secret, tmp_path / "outside/model.tflite")
    os.mkfifo(models / "pipe.tflite")
    bind(models / "socket.tflite")
    (models / "folder.tflite").mkdir()
    (models / "link.tflite").symlink_to(secret)
    (models / "loop.tflite").symlink_to("loop.tflite")
    (models / "nowhere.tflite").symlink_to("gone")
    (models / "linked").symlink_to(tmp_path / "outside")
    (models / "climber").symlink_to("../../../../..")
    shutil.copy(digits / "digits.tflite", models / "sided.tflite")
    (models / "sided.yaml").symlink_to(secret)
    (models / f"{ESCAPE}.tflite").write_bytes(b"x")
    (models / os.fsdecode(b"\xff\xfe.tflite")).write_bytes(b"x")
    (models / ("x" * 248 + ".tflite")).write_bytes(b"x")
    with (models / "sparse.tflite").open("wb") as file:
        file.truncate(1 << 40)
    odd = {safe_name(n) for n in (ESCAPE, os.fsdecode(b"\xff\xfe"), "x" * 248)}
    links = {"link", "loop", "nowhere", "linked", "sided"}
    found = stages(serving, {"pipe", "socket", "folder", "sparse", *links, *odd})
    assert found.pop("sparse") == "size"
    assert set(found.values()) == {"name"}
    kept = [p for p in (serving.root / "state").rglob("*") if p.is_file()]
    assert not any(SECRET in path.read_bytes() for path in kept)
    log = "".join(serving.log)
    assert "\x1b" not in log
    assert "nobody else may read" not in log
    assert is_served(serving, images)


def planted_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


PLANTED: dict[str, Callable[[Path], None]] = {
    "link": lambda path: path.symlink_to("../victim"),
    "folder": planted_folder,
    "pipe": lambda path: os.mkfifo(path),
    "lie": lambda path: path.write_text('{"state": "serving", "version": "99"}') and None,
}


def test_a_planted_status_leads_the_daemon_nowhere(serving: Daemon, images: np.ndarray):
    victim = serving.root / "victim"
    victim.write_bytes(SECRET)
    for name, plant in PLANTED.items():
        plant(serving.models / f"{name}.status.json")
        (serving.models / f"{name}.tflite").write_bytes(b"Dear all, no model here.\n")
    stages(serving, set(PLANTED))
    assert victim.read_bytes() == SECRET
    for name in ("link", "pipe", "lie"):
        path = serving.models / f"{name}.status.json"
        serving.wait(f"{name}'s status", lambda _, path=path: path.is_file())
        assert not path.is_symlink()
        serving.wait(
            f"{name}'s own words",
            lambda _, path=path: json.loads(path.read_bytes())["state"] == "quarantined",
        )
    assert is_served(serving, images)


def test_a_drop_folder_that_is_replaced_is_followed_and_what_serves_goes_on(
    serving: Daemon, digits: Path, images: np.ndarray, tmp_path: Path
):
    shutil.rmtree(serving.models)
    assert is_served(serving, images)
    serving.models.mkdir()
    serving.drop(digits / "digits_v2.tflite", "again")
    serving.wait_served("again")
    serving.models.rename(tmp_path / "other")
    serving.models.symlink_to(tmp_path / "other")
    serving.drop(digits / "digits_v2.tflite", "linked")
    serving.wait_served("linked")
    assert serving.wait_served("digits")["live"]["version"] == "1"


def test_a_file_that_is_appended_to_for_ever_holds_nobody_else_up(
    serving: Daemon, digits: Path, images: np.ndarray
):
    with (serving.models / "endless.tflite").open("ab", buffering=0) as file:

        def is_there(status: dict) -> bool:
            file.write(b"TFL3" * 16)
            return "other" in status["models"]

        serving.drop(digits / "digits_v2.tflite", "other")
        status = serving.wait("the other one served", is_there)
    assert "endless" not in status["models"]
    assert not any(entry["name"] == "endless" for entry in status["quarantine"])
    digest = hashlib.sha256((serving.models / "other.tflite").read_bytes()).hexdigest()
    assert digest == hashlib.sha256((digits / "digits_v2.tflite").read_bytes()).hexdigest()
    assert is_served(serving, images)
