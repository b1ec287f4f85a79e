from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edgeq.observe.board import (
    QUANTITIES,
    Reading,
    read_gpus,
    read_memory,
    read_power,
    read_state_filesystem,
    read_temperatures,
    sources,
)
from tests.observe import boards

GIB = 1 << 30


def values(readings: Iterable[Reading]) -> dict[str, float]:
    return {each.place: each.value for each in readings}


def everything(root: Path) -> list[Reading]:
    return [each for read in sources(root, root).values() for each in read()]


# ---- what each board offers


def test_an_orin_has_zones_rails_gpu_and_memory(tmp_path: Path) -> None:
    root = boards.orin(tmp_path)
    assert values(read_temperatures(root)) == {
        "cpu-thermal": 48.062, "gpu-thermal": 44.812, "tj-thermal": 48.093,
    }  # fmt: skip
    assert values(read_gpus(root)) == {"17000000.gpu": 0.437}
    assert values(read_power(root)) == {
        "VDD_GPU_SOC": pytest.approx(19.960 * 0.160),
        "VDD_CPU_CV": pytest.approx(19.968 * 0.040),
    }
    assert values(read_memory(root)) == {
        "total": 30_697_520 * 1024, "available": 27_000_000 * 1024,
        "swap_total": 15_000_000 * 1024, "swap_free": 15_000_000 * 1024,
        "gpu_used": 350_000 * 1024,
    }  # fmt: skip


def test_a_xavier_has_its_monitors_as_iio_devices(tmp_path: Path) -> None:
    root = boards.xavier(tmp_path)
    assert values(read_temperatures(root)) == {"CPU-therm": 38.5, "GPU-therm": 37.0}
    assert values(read_gpus(root)) == {"17000000.gv11b": 1.0}
    assert values(read_power(root)) == {"GPU": 0.311, "CPU": 0.467, "CV": 0.0}


def test_a_nano_s_idle_gpu_is_zero_and_what_its_kernel_does_not_count_is_absent(
    tmp_path: Path,
) -> None:
    root = boards.nano(tmp_path)
    assert values(read_gpus(root)) == {"57000000.gpu": 0.0}
    assert values(read_power(root)) == {"POM_5V_IN": 2.103}
    assert "PMIC-Die" not in values(read_temperatures(root))
    assert "gpu_used" not in values(read_memory(root))


def test_a_raspberry_pi_has_a_temperature_and_memory_alone(tmp_path: Path) -> None:
    root = boards.raspberry_pi(tmp_path)
    assert values(read_temperatures(root)) == {"cpu-thermal": 51.608}
    assert values(read_memory(root))["total"] == 3_884_000 * 1024
    assert [*read_gpus(root), *read_power(root)] == []


def test_a_desktop_has_its_chips_sensors_and_its_card(tmp_path: Path) -> None:
    root = boards.desktop(tmp_path)
    assert [each.place for each in read_temperatures(root)] == [
        "acpitz", "x86_pkg_temp", "coretemp Package id 0", "coretemp Core 0",
        "nvme Composite", "nvme Composite", "amdgpu edge",
    ]  # fmt: skip
    assert values(read_gpus(root)) == {"card0": 0.23}
    assert values(read_power(root)) == {"amdgpu power1": 17.0}
    memory = values(read_memory(root))
    assert (memory["vram_total"], memory["vram_used"]) == (8573157376, GIB)


def test_an_empty_root_has_nothing(tmp_path: Path) -> None:
    assert list(read_temperatures(tmp_path)) == []
    assert [*read_gpus(tmp_path), *read_memory(tmp_path), *read_power(tmp_path)] == []


# ---- files that are not as they should be


@pytest.mark.parametrize("text", ["", "n/a", "\x00", "12.5.3"])
@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("sys/class/thermal/thermal_zone0/temp", read_temperatures),
        ("sys/devices/gpu.0/load", read_gpus),
        ("sys/class/hwmon/hwmon0/power1_input", read_power),
        ("sys/class/drm/card0/device/mem_info_vram_used", read_memory),
        ("proc/meminfo", read_memory),
    ],
    ids=lambda value: Path(value).name if isinstance(value, str) else value.__name__,
)
def test_a_file_without_a_number_is_an_absent_value(
    path: str, read: Callable[[Path], Iterable[Reading]], text: str, tmp_path: Path
) -> None:
    boards.write(tmp_path, {path: text})
    assert list(read(tmp_path)) == []


def test_a_sensor_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    root = boards.raspberry_pi(tmp_path)
    # A folder where a file should be fails to be read, as a sensor that is off does (EAGAIN).
    (root / "sys/class/thermal/thermal_zone1/temp").mkdir(parents=True)
    (root / "sys/class/thermal/thermal_zone1/type").write_text("cv0-thermal\n")
    assert values(read_temperatures(root)) == {"cpu-thermal": 51.608}


def test_a_chip_or_rail_without_a_name_is_called_by_its_file(tmp_path: Path) -> None:
    boards.write(
        tmp_path,
        {
            "sys/class/hwmon/hwmon7/temp1_input": "30000",
            "sys/class/hwmon/hwmon7/power2_input": "1500000",
            "sys/class/hwmon/hwmonkey/temp1_input": "31000",
        },
    )
    assert values(read_temperatures(tmp_path)) == {"hwmon7 temp1": 30.0}
    assert values(read_power(tmp_path)) == {"hwmon7 power2": 1.5}


# ---- the disk, and all together


def test_the_state_folder_s_filesystem_has_a_size_and_room(tmp_path: Path) -> None:
    sizes = {each.quantity: each.value for each in read_state_filesystem(tmp_path)}
    assert 0 < sizes["state_filesystem_available_bytes"] <= sizes["state_filesystem_size_bytes"]
    assert list(read_state_filesystem(tmp_path / "gone")) == []


@pytest.mark.parametrize(
    "board", [boards.orin, boards.xavier, boards.nano, boards.raspberry_pi, boards.desktop],
    ids=lambda board: board.__name__,
)  # fmt: skip
def test_every_reading_is_of_a_declared_quantity(
    board: Callable[[Path], Path], tmp_path: Path
) -> None:
    readings = everything(board(tmp_path))
    assert {each.quantity for each in readings} <= set(QUANTITIES)
    assert all(bool(each.place) == bool(QUANTITIES[each.quantity].label) for each in readings)
