"""Trees of /sys and /proc as boards have them, written below a folder of the test's.

Names and units as the kernel's documents and NVIDIA's Jetson Linux Developer Guide give them, as
far as a metric depends on them; values are made up, each one different.
"""

from __future__ import annotations

from pathlib import Path

Tree = dict[str, str]

MEMINFO = """\
MemTotal:       {total} kB
MemFree:         1000000 kB
MemAvailable:   {available} kB
Buffers:          100000 kB
SwapTotal:       {swap} kB
SwapFree:        {swap} kB
HugePages_Total:       0
"""


def write(root: Path, tree: Tree, links: dict[str, str] | None = None) -> Path:
    """Write files, then links (from, to a path of the tree); return the root."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    for name, target in (links or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(root / target)
    return root


def zones(*pairs: tuple[str, str]) -> Tree:
    """Thermal zones: type and temp."""
    tree = {}
    for number, (kind, millidegrees) in enumerate(pairs):
        tree[f"sys/class/thermal/thermal_zone{number}/type"] = kind
        tree[f"sys/class/thermal/thermal_zone{number}/temp"] = millidegrees
    return tree


def chip(number: int, name: str, **files: str) -> Tree:
    """A chip of hwmon."""
    folder = f"sys/class/hwmon/hwmon{number}"
    return {f"{folder}/name": name, **{f"{folder}/{key}": text for key, text in files.items()}}


def meminfo(total: int, available: int, swap: int = 0, more: str = "") -> Tree:
    """What /proc/meminfo says, kB."""
    text = MEMINFO.format(total=total, available=available, swap=swap) + more
    return {"proc/meminfo": text.rstrip("\n")}


def orin(root: Path) -> Path:
    """AGX Orin, JetPack 6: INA3221 under hwmon, zones that are off, the GPU below devfreq."""
    rails = chip(
        1, "ina3221",
        in1_label="VDD_GPU_SOC", in1_input="19960", curr1_input="160",
        in2_label="VDD_CPU_CV", in2_input="19968", curr2_input="40",
        in3_label="NC", in3_input="19976", curr3_input="0",
        in4_input="80", in7_label="sum of shunt voltages", in7_input="120", curr4_input="200",
    )  # fmt: skip
    gpu = "sys/devices/platform/bus@0/17000000.gpu"
    tree = {
        **zones(("cpu-thermal", "48062"), ("gpu-thermal", "44812"), ("cv0-thermal", "-256000"),
                ("tj-thermal", "48093")),
        **chip(0, "cpu_thermal", temp1_input="48062"),
        **rails,
        **meminfo(30_697_520, 27_000_000, 15_000_000, "NvMapMemUsed:  350000 kB\n"),
        f"{gpu}/load": "437",
    }  # fmt: skip
    links = {
        "sys/class/devfreq/17000000.gpu/device": gpu,
        "sys/devices/platform/gpu.0": gpu,
    }
    return write(root, tree, links)


def xavier(root: Path) -> Path:
    """AGX Xavier, JetPack 4: INA3221 as an IIO device, the GPU at gpu.0, two monitors."""
    monitor = "sys/bus/i2c/drivers/ina3221x"
    gpu = "sys/devices/17000000.gv11b"
    tree = {
        **zones(("CPU-therm", "38500"), ("GPU-therm", "37000"), ("PMIC-Die", "100000")),
        f"{monitor}/1-0040/iio:device0/rail_name_0": "GPU",
        f"{monitor}/1-0040/iio:device0/in_power0_input": "311",
        f"{monitor}/1-0040/iio:device0/rail_name_1": "CPU",
        f"{monitor}/1-0040/iio:device0/in_power1_input": "467",
        f"{monitor}/1-0041/iio:device1/rail_name_0": "CV",
        f"{monitor}/1-0041/iio:device1/in_power0_input": "0",
        **meminfo(16_306_000, 12_000_000),
        f"{gpu}/load": "1000",
    }
    return write(root, tree, {"sys/devices/gpu.0": gpu})


def nano(root: Path) -> Path:
    """Nano, JetPack 4.6: the first generation's rails; the GPU is idle, and says so."""
    monitor = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    gpu = "sys/devices/57000000.gpu"
    tree = {
        **zones(("AO-therm", "41000"), ("CPU-therm", "33500"), ("GPU-therm", "32000"),
                ("PLL-therm", "31500"), ("PMIC-Die", "100000")),
        f"{monitor}/rail_name_0": "POM_5V_IN",
        f"{monitor}/in_power0_input": "2103",
        **meminfo(4_059_176, 2_500_000, 2_029_584, "NvMapMemUsed:       0 kB\n"),
        f"{gpu}/load": "0",
    }  # fmt: skip
    return write(root, tree, {"sys/devices/gpu.0": gpu})


def raspberry_pi(root: Path) -> Path:
    """Raspberry Pi 4: a temperature and memory, no more."""
    tree = {
        **zones(("cpu-thermal", "51608")),
        **chip(0, "cpu_thermal", temp1_input="51608"),
        **chip(1, "rpi_volt", in0_lcrit_alarm="0"),
        **meminfo(3_884_000, 3_000_000),
    }
    return write(root, tree)


def desktop(root: Path) -> Path:
    """A PC with a discrete AMD GPU: sensors of several chips, a battery that is no rail."""
    tree = {
        **zones(("acpitz", "27800"), ("x86_pkg_temp", "53000")),
        **chip(0, "acpitz", temp1_input="27800"),
        **chip(2, "coretemp", temp1_input="53000", temp1_label="Package id 0",
               temp2_input="50000", temp2_label="Core 0"),
        **chip(10, "amdgpu", temp1_input="44000", temp1_label="edge", power1_average="17000000"),
        **chip(3, "BAT0", in0_input="12100", curr1_input="900"),
        **chip(4, "nvme", temp1_input="39850", temp1_label="Composite"),
        **chip(5, "nvme", temp1_input="41850", temp1_label="Composite"),
        **meminfo(65_000_000, 40_000_000, 8_000_000),
        "sys/class/drm/card0/device/gpu_busy_percent": "23",
        "sys/class/drm/card0/device/mem_info_vram_total": "8573157376",
        "sys/class/drm/card0/device/mem_info_vram_used": "1073741824",
        "sys/class/drm/card0-DP-1/status": "connected",
    }  # fmt: skip
    return write(root, tree)
