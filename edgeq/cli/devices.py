"""The GPU devices that this box has -> the list of them that systemd lets the daemon open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# What a CUDA process opens: on Jetsons of every generation, and with the discrete driver.
PATTERNS = (
    "nvmap", "nvhost-*", "nvgpu/*/*", "nvidia*", "nvidia-caps/*", "dri/renderD*",
)  # fmt: skip
# Made when the first CUDA process starts: a list without them would keep it from starting.
OF_THE_DISCRETE_DRIVER = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
PLACE = "/etc/systemd/system/edgeq.service.d/devices.conf"


def gpu_devices(root: Path = Path("/")) -> list[str]:
    """Return the paths of the GPU's devices, sorted."""
    folder = root / "dev"
    found = {path for pattern in PATTERNS for path in folder.glob(pattern) if not path.is_dir()}
    return sorted(f"/dev/{path.relative_to(folder)}" for path in found)


def drop_in(devices: Sequence[str]) -> str:
    """Return a drop-in that allows these devices and no other, in place of the unit's long list."""
    lines = [f"# {PLACE}: the GPU devices of this box, and no other", "[Service]", "DeviceAllow="]
    if not devices:
        lines.insert(1, "# There is none: edgeq-cpu.conf, beside the unit, closes more than this.")
    is_discrete = any(device.startswith("/dev/nvidia") for device in devices)
    more = [each for each in OF_THE_DISCRETE_DRIVER if is_discrete and each not in devices]
    return "\n".join([*lines, *(f"DeviceAllow={device} rw" for device in [*devices, *more])])
