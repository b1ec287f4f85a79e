"""A filesystem root -> what the board says of itself: temperatures, GPU load, memory, power.

Only what the kernel shows to everyone is read, the files that tegrastats reads too; what a board
does not offer, or a sensor that is off, has no reading. Sources of paths and units: the kernel's
Documentation/ABI/testing/sysfs-class-{thermal,hwmon}, Documentation/hwmon/ina3221.rst and
Documentation/gpu/amdgpu/thermal.rst; NVIDIA's Jetson Linux Developer Guide, "Platform Power and
Performance" of each series and "Tegrastats Utility"; /proc/meminfo's proc(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

KIB = 1 << 10
MAX_READINGS = (
    64  # of one source: a server with hundreds of sensors is no reason for as many series
)
# A rail that is switched off reads -256 degrees on some boards, and EAGAIN on others.
LOWEST_CELSIUS = -100.0
# The PMIC's zone of Jetson TX and Nano is the constant 100 degrees.
NOT_SENSORS = ("PMIC-Die",)
UNCONNECTED = "NC"  # how NVIDIA's device trees label a channel without a rail

# Where an integrated NVIDIA GPU keeps its load; the first that is there counts. `gpu.0` is a link
# to the same folder: Nano's 57000000.gpu, Xavier's 17000000.gv11b, Orin's 17000000.ga10b or .gpu.
TEGRA_GPUS = (
    "sys/class/devfreq/*.g[pvam]*/device",
    "sys/devices/gpu.0",
    "sys/devices/platform/gpu.0",
    "sys/devices/platform/*.g[pvam]*",
    "sys/devices/platform/bus@0/*.g[pvam]*",
)
GPU_SHARE = "NvMapMemUsed"  # of Jetson's kernels: what the GPU took of the shared memory
MEMORY = {  # field of /proc/meminfo -> kind
    "MemTotal": "total",
    "MemAvailable": "available",
    "SwapTotal": "swap_total",
    "SwapFree": "swap_free",
    GPU_SHARE: "gpu_used",
}


@dataclass(frozen=True)
class Reading:
    """One value of one sensor.

    Args:
        quantity: the metric's name without `edgeq_`, a key of QUANTITIES.
        place: the value of its label: zone, GPU, kind or rail; '' where it has none.
        value: in the unit that the name ends in.
    """

    quantity: str
    place: str
    value: float


@dataclass(frozen=True)
class Quantity:
    """What a kind of reading means."""

    text: str
    label: str = ""


QUANTITIES = {
    "device_temperature_celsius": Quantity("Temperature of a thermal zone or sensor.", "zone"),
    "device_gpu_utilization_ratio": Quantity("Share of time that the GPU was busy.", "gpu"),
    "device_memory_bytes": Quantity(
        "The board's memory: total, available, swap_total, swap_free, gpu_used, "
        "vram_total, vram_used.",
        "kind",
    ),
    "device_power_watts": Quantity("Power drawn from a rail.", "rail"),
    "state_filesystem_size_bytes": Quantity("Size of the filesystem that holds the state folder."),
    "state_filesystem_available_bytes": Quantity("What edgeq may still write to it."),
}


def read_temperatures(root: Path) -> Iterator[Reading]:
    """Yield the thermal zones and what other chips measure; millidegrees in the files."""
    zones = set()
    for folder in _numbered(root / "sys/class/thermal", "thermal_zone"):
        kind = _text(folder / "type")
        zones.add(_as_chip(kind))
        value = _number(folder / "temp")
        if value is not None and kind not in NOT_SENSORS and value / 1e3 > LOWEST_CELSIUS:
            yield Reading("device_temperature_celsius", kind or folder.name, value / 1e3)
    for chip, folder in _chips(root):
        if chip in zones:  # a thermal zone is shown as a chip once more
            continue
        for name, value in _inputs(folder, "temp", "input"):
            if value / 1e3 > LOWEST_CELSIUS:
                label = _text(folder / f"{name}_label") or name
                yield Reading("device_temperature_celsius", f"{chip} {label}", value / 1e3)


def read_gpus(root: Path) -> Iterator[Reading]:
    """Yield each GPU's load: per mille of an integrated NVIDIA GPU, percent of an AMD one."""
    for folder in _tegra_gpus(root):
        value = _number(folder / "load")
        if value is not None:
            yield Reading("device_gpu_utilization_ratio", folder.resolve().name, value / 1e3)
            break
    for card in _cards(root):
        value = _number(card / "device/gpu_busy_percent")
        if value is not None:
            yield Reading("device_gpu_utilization_ratio", card.name, value / 1e2)


def read_memory(root: Path) -> Iterator[Reading]:
    """Yield the board's memory, and that of discrete AMD GPUs, all of them together."""
    for line in _text(root / "proc/meminfo").splitlines():
        field, _, amount = line.partition(":")
        words = amount.split()
        if field not in MEMORY or not words or not words[0].isdigit():
            continue
        if field != GPU_SHARE or words[0] != "0":  # 0: a kernel that does not count it
            yield Reading("device_memory_bytes", MEMORY[field], float(int(words[0]) * KIB))
    for kind in ("total", "used"):
        values = [_number(card / f"device/mem_info_vram_{kind}") for card in _cards(root)]
        known = [value for value in values if value is not None]
        if known:
            yield Reading("device_memory_bytes", f"vram_{kind}", sum(known))


def read_power(root: Path) -> Iterator[Reading]:
    """Yield the rails: of INA3221 monitors mV x mA, of other chips microwatts.

    L4T 32 (Nano, TX, Xavier) has the same monitor as an IIO device, with milliwatts.
    """
    for chip, folder in _chips(root):
        if chip.startswith("ina3221"):
            yield from _monitored(folder)
        for name, value in _inputs(folder, "power", "(?:input|average)"):
            label = _text(folder / f"{name}_label") or f"{chip} {name}"
            yield Reading("device_power_watts", label, value / 1e6)
    for folder in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for rail in sorted(folder.glob("rail_name_*")):
            milliwatts = _number(folder / f"in_power{rail.name.rpartition('_')[2]}_input")
            if milliwatts is not None:
                yield Reading("device_power_watts", _text(rail) or rail.name, milliwatts / 1e3)


def read_state_filesystem(folder: Path) -> Iterator[Reading]:
    """Yield size and room of the filesystem of a folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return
    size, room = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    yield Reading("state_filesystem_size_bytes", "", float(size))
    yield Reading("state_filesystem_available_bytes", "", float(room))


def sources(root: Path, state: Path) -> dict[str, Callable[[], Iterator[Reading]]]:
    """Return what can be asked, each by itself: one that hangs must not hide the others."""
    return {
        "temperature": lambda: read_temperatures(root),
        "gpu": lambda: read_gpus(root),
        "memory": lambda: read_memory(root),
        "power": lambda: read_power(root),
        "filesystem": lambda: read_state_filesystem(state),
    }


# ---- folders and files


def _monitored(folder: Path) -> Iterator[Reading]:
    """The rails of one INA3221: in[123] are its buses, with labels; the sums have none."""
    for name, milliamperes in _inputs(folder, "curr", "input"):
        number = name.removeprefix("curr")
        label = _text(folder / f"in{number}_label")
        millivolts = _number(folder / f"in{number}_input")
        if label not in ("", UNCONNECTED) and millivolts is not None:
            yield Reading("device_power_watts", label, millivolts * milliamperes / 1e6)


def _chips(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in _numbered(root / "sys/class/hwmon", "hwmon"):
        yield _text(folder / "name") or folder.name, folder


def _inputs(folder: Path, kind: str, ending: str) -> Iterator[tuple[str, float]]:
    """Yield a chip's channels of a kind, as in ('temp1', 41000.0)."""
    pattern = re.compile(rf"({kind}\d+)_{ending}")
    for name in sorted(_names(folder)):
        matched = pattern.fullmatch(name)
        value = _number(folder / name) if matched else None
        if matched and value is not None:
            yield matched[1], value


def _tegra_gpus(root: Path) -> Iterator[Path]:
    for pattern in TEGRA_GPUS:
        yield from sorted(root.glob(pattern))


def _cards(root: Path) -> list[Path]:
    return _numbered(root / "sys/class/drm", "card")


def _numbered(folder: Path, prefix: str) -> list[Path]:
    """Return the entries `prefix` and a number, in the order of their numbers."""
    numbers = (name.removeprefix(prefix) for name in _names(folder) if name.startswith(prefix))
    return [folder / f"{prefix}{n}" for n in sorted(int(n) for n in numbers if n.isdigit())]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _as_chip(kind: str) -> str:
    """Return the name under which the kernel shows a thermal zone as a chip."""
    return kind.replace("-", "_")


def _text(path: Path) -> str:
    """Return what a file holds; '' where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    """Return the number that a file starts with; None where there is none."""
    words = _text(path).split()
    try:
        return float(int(words[0])) if words else None
    except ValueError:
        return None
