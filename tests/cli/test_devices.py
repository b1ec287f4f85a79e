"""The device list is what the box has, and systemd takes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgeq.cli.devices import PLACE, drop_in, gpu_devices

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "edgeq.service"
ORIN = ("nvmap", "nvhost-ctrl-gpu", "nvgpu/igpu0/ctrl", "nvgpu/igpu0/as", "dri/renderD128")
CARD = ("nvidia0", "nvidiactl", "nvidia-caps/nvidia-cap1")
OTHERS = ("vda", "mem", "video0", "dri/card0", "tty")


def box_of(folder: Path, *names: str) -> Path:
    for name in (*names, *OTHERS):
        path = folder / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize("names", [ORIN, CARD, ()], ids=["orin", "card", "none"])
def test_a_gpu_s_devices_are_found_and_no_other(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert gpu_devices(box_of(tmp_path, *names)) == sorted(f"/dev/{name}" for name in names)


def test_they_take_the_place_of_the_units_list() -> None:
    lines = drop_in(["/dev/nvmap", "/dev/dri/renderD128"]).splitlines()
    assert lines[1:] == [
        "[Service]",
        "DeviceAllow=",
        "DeviceAllow=/dev/nvmap rw",
        "DeviceAllow=/dev/dri/renderD128 rw",
    ]


def test_what_the_discrete_driver_makes_later_is_allowed_already() -> None:
    text = drop_in(["/dev/nvidia0", "/dev/nvidiactl"])
    assert text.count("/dev/nvidiactl rw") == 1
    assert "DeviceAllow=/dev/nvidia-uvm rw" in text


def test_without_a_gpu_none_is_allowed_and_the_stricter_drop_in_named() -> None:
    text = drop_in([])
    assert text.endswith("[Service]\nDeviceAllow=")
    assert "edgeq-cpu.conf" in text


def test_systemd_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / "edgeq.service"
    rules = drop_in([f"/dev/{name}" for name in ORIN]).split("[Service]\n")[1]
    unit.write_text(UNIT.read_text().replace("[Install]", f"{rules}\n[Install]"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (verified.stdout, verified.stderr) == ("", "")
    assert PLACE.startswith("/etc/systemd/system/edgeq.service.d/")
