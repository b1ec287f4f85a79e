from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq import files
from edgeq.engines.cuda.launch import Kernel, Launch, Pointer
from edgeq.engines.cuda.tuning import remembered
from edgeq.engines.cuda.tuning.remembered import (
    DeviceIdentity,
    Remembered,
    read_power_mode,
    tuning_key,
)

DEVICE = DeviceIdentity("Orin", 16, (12, 6), "pmode:0000")
LAUNCH = Launch(Kernel("conv", (("N", 1),), 128), (4, 1, 1), (Pointer("arena"),), "conv")


def test_what_was_added_is_there_after_a_restart(tmp_path):
    path = tmp_path / "deep" / "tuning.json"
    memory = Remembered.load(path)
    assert memory.get("key") is None
    memory.add("key", "conv1", "conv_mma 64x64", 12.34567)
    assert memory.get("key") == ("conv_mma 64x64", 12.346)
    assert memory.save() == ""
    assert Remembered.load(path).get("key") == ("conv_mma 64x64", 12.346)


def test_what_others_added_meanwhile_is_kept(tmp_path):
    path = tmp_path / "tuning.json"
    mine, theirs = Remembered.load(path), Remembered.load(path)
    mine.add("mine", "a", "x", 1.0)
    theirs.add("theirs", "b", "y", 2.0)
    assert mine.save() == theirs.save() == ""
    both = Remembered.load(path)
    assert both.get("mine") == ("x", 1.0)
    assert both.get("theirs") == ("y", 2.0)


def test_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "MAX_ENTRIES", 2)
    memory = Remembered.load(tmp_path / "tuning.json")
    for key in ("first", "second", "third"):
        memory.add(key, "", "x", 1.0)
    memory.save()
    again = Remembered.load(tmp_path / "tuning.json")
    assert [again.get(key) is None for key in ("first", "second", "third")] == [True, False, False]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 0, "choices": {"key": {"choice": "x", "microseconds": 1.0}}}',
        b'{"format": 1}',
        b'{"format": 1, "choices": []}',
        b'{"format": 1, "choices": {"key": {"choice": "x"}}}',
        b'{"format": 1, "choices": {"key": {"choice": 1, "microseconds": 1.0}}}',
        b"\xff\xfe",
    ],
)
def test_a_file_that_is_not_understood_is_empty_and_replaced(content, tmp_path):
    path = tmp_path / "tuning.json"
    path.write_bytes(content)
    memory = Remembered.load(path)
    assert memory.get("key") is None
    memory.add("key", "", "x", 1.0)
    assert memory.save() == ""
    assert list(json.loads(path.read_bytes())["choices"]) == ["key"]


def test_a_full_disk_is_a_reason_and_no_error(tmp_path, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    memory = Remembered.load(tmp_path / "tuning.json")
    memory.add("key", "", "x", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(files, "write_atomic", full)
        reason = f"tuning is not kept in {tmp_path}/tuning.json: No space left on device"
        assert memory.save() == reason
    assert memory.save() == ""
    assert Remembered.load(tmp_path / "tuning.json").get("key") == ("x", 1.0)


def test_without_a_file_it_is_remembered_for_as_long_as_the_process_lives():
    memory = Remembered.load(None)
    memory.add("key", "", "x", 1.0)
    assert memory.get("key") == ("x", 1.0)
    assert memory.save() == ""


def test_nothing_new_writes_nothing(tmp_path):
    assert Remembered.load(tmp_path / "tuning.json").save() == ""
    assert list(tmp_path.iterdir()) == []


def test_the_key_depends_on_the_device_the_node_and_the_choices(monkeypatch):
    keys = [
        tuning_key(DEVICE, [LAUNCH], ["a", "b"]),
        tuning_key(replace(DEVICE, power_mode="pmode:0002"), [LAUNCH], ["a", "b"]),
        tuning_key(replace(DEVICE, driver=(12, 2)), [LAUNCH], ["a", "b"]),
        tuning_key(replace(DEVICE, multiprocessors=8), [LAUNCH], ["a", "b"]),
        tuning_key(DEVICE, [replace(LAUNCH, grid=(5, 1, 1))], ["a", "b"]),
        tuning_key(DEVICE, [LAUNCH], ["a"]),
    ]
    monkeypatch.setattr(remembered, "_kernels_digest", lambda: "other kernels")
    keys.append(tuning_key(DEVICE, [LAUNCH], ["a", "b"]))
    assert len(set(keys)) == 7


def test_the_key_is_the_same_wherever_the_node_s_values_lie():
    moved = replace(LAUNCH, pointers=(Pointer("arena", 256),), label="another")
    assert tuning_key(DEVICE, [LAUNCH], ["a"]) == tuning_key(DEVICE, [moved], ["a"])


def test_a_jetson_s_power_mode_and_highest_clock_are_read(tmp_path):
    mode = tmp_path / "var/lib/nvpmodel/status"
    gpu = tmp_path / "sys/class/devfreq/17000000.ga10b/max_freq"
    for path, content in ((mode, "pmode:0002 fmode:fanNull\n"), (gpu, "918000000\n")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    (tmp_path / "sys/class/devfreq/other").mkdir()
    assert read_power_mode(tmp_path) == "pmode:0002 fmode:fanNull; 17000000.ga10b 918000000"
    assert read_power_mode(tmp_path / "elsewhere") == ""
