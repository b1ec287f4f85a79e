"""Files that a drop folder meets in real life never reach serving, and each says why."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon, infer

PIECES = 20


def refused(daemon: Daemon, name: str) -> dict:
    """Wait for a drop's reason in quarantine, and return it."""
    status = daemon.wait(
        f"{name} quarantined", lambda s: any(e["name"] == name for e in s["quarantine"])
    )
    entry = next(e for e in status["quarantine"] if e["name"] == name)
    folder = daemon.root / "state/quarantine" / entry["id"]
    reason = json.loads((folder / "reason.json").read_text())
    assert reason["error"] == entry["error"]
    assert reason["hint"]
    told_path = daemon.models / f"{name}.status.json"
    daemon.wait("the status file", lambda _: told_path.exists())  # it is written last
    told = json.loads(told_path.read_text())
    assert told["state"] == "quarantined"
    assert told["reason"] == entry["error"]
    assert name not in status["models"]
    return entry


@pytest.fixture
def serving(daemon: Daemon, digits: Path) -> Daemon:
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    return daemon


def test_none_of_many_bad_files_is_served_and_the_good_model_goes_on(
    serving: Daemon, digits: Path, images: np.ndarray
):
    good = (digits / "digits.tflite").read_bytes()
    flipped = bytearray(good)
    flipped[int.from_bytes(good[:4], "little")] ^= 0xFF  # the root table's link to its vtable
    files = {
        "truncated": (good[: len(good) // 2], "structure"),
        "random": (np.random.default_rng(0).bytes(20_000), "magic"),
        "flipped": (bytes(flipped), "structure"),
        "empty": (b"", "magic"),
        "text": (b"Dear all, the model is in the other folder.\n" * 9, "magic"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "magic"),
    }
    for name, (content, _) in files.items():
        (serving.models / f"{name}.tflite").write_bytes(content)
    client = serving.triton()
    for name, (_, stage) in files.items():
        entry = refused(serving, name)
        assert entry["stage"] in (stage, "size"), entry
        assert " " in entry["error"]  # a sentence, not a code
        version, _ = infer(client, "digits", "image", images[:1], "scores")
        assert version == "1"


def test_a_slow_writer_is_waited_for(daemon: Daemon, digits: Path):
    daemon.start()
    content = (digits / "digits.tflite").read_bytes()
    size = len(content) // PIECES + 1
    with (daemon.models / "slow.tflite").open("wb") as file:
        for start in range(0, len(content), size):
            file.write(content[start : start + size])
            file.flush()
            time.sleep(0.15)  # under settle_s: the file never rests before its end
            assert "slow" not in daemon.status()["models"]
    daemon.wait_served("slow")
    assert daemon.status()["quarantine"] == []


def test_a_slow_writer_over_a_served_model_never_harms_it(serving: Daemon, digits: Path):
    """An overwriting copy that pauses longer than the settling time: the half is quarantined."""
    content = (digits / "digits_v2.tflite").read_bytes()
    target = serving.models / "digits.tflite"
    with target.open("wb") as file:
        file.write(content[:10_000])
        file.flush()
        status = serving.wait("half refused", lambda s: bool(s["quarantine"]))
        assert status["models"]["digits"]["live"]["version"] == "1"
        file.write(content[10_000:])
    serving.wait_served("digits", not_version="1")


def test_the_same_bad_bytes_are_not_tried_twice(serving: Daemon):
    target = serving.models / "bad.tflite"
    target.write_bytes(b"not a model at all, whatever its name says")
    refused(serving, "bad")
    before = len(serving.client.call("quarantine", action="list")["entries"])
    target.touch()
    time.sleep(1.5)
    log = "".join(serving.log)
    assert log.count("drop quarantined") == 1
    assert len(serving.client.call("quarantine", action="list")["entries"]) == before


def test_a_retry_takes_a_quarantined_drop_once_more(serving: Daemon):
    (serving.models / "bad.tflite").write_bytes(b"not a model at all, whatever its name says")
    entry = refused(serving, "bad")
    serving.client.call("quarantine", action="retry", id=entry["id"])
    serving.wait("tried again", lambda s: "".join(serving.log).count("drop quarantined") == 2)
    serving.client.call("quarantine", action="rm", id=refused(serving, "bad")["id"])
    assert serving.client.call("quarantine", action="list")["entries"] == []


def test_a_wrong_sidecar_is_a_reason_too(serving: Daemon, digits: Path):
    (serving.models / "odd.yaml").write_text("methd: entropy\n")
    (serving.models / "odd.tflite").write_bytes((digits / "digits.tflite").read_bytes())
    entry = refused(serving, "odd")
    assert entry["stage"] == "sidecar"
    assert "method" in entry["error"]


def test_a_digest_in_the_sidecar_is_held_against_the_file(serving: Daemon, digits: Path):
    (serving.models / "signed.yaml").write_text(f"sha256: {'0' * 64}\n")
    (serving.models / "signed.tflite").write_bytes((digits / "digits.tflite").read_bytes())
    assert refused(serving, "signed")["stage"] == "digest"
