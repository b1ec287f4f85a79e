from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgeq.engines.cuda.compiling.nvrtc import Compiler
from edgeq.engines.cuda.gpu import presence
from edgeq.engines.cuda.gpu.device import DeviceFacts
from edgeq.engines.cuda.gpu.presence import Box, Finding
from edgeq.engines.cuda.targets import Target
from edgeq.errors import DeviceError, EngineError

ORIN = DeviceFacts("Orin", Target(87), 16, 64 << 30, True, (12, 6))
JETSONS = {5: "R35", 6: "R36", 7: "R38"}


def fails(message: str) -> Callable[[], object]:
    def ask() -> object:
        raise EngineError(message)

    return ask


@dataclass
class FakeBox:
    """A box where all is well, but for what a test takes away."""

    root: Path
    compilers: list[Compiler] = field(default_factory=lambda: [nvrtc(12)])
    closed: tuple[str, ...] = ()
    has_pycuda: bool = True
    driver: Callable[[], object] = lambda: None
    pycuda: Callable[[], object] = lambda: None
    facts: DeviceFacts | EngineError = ORIN

    def find(self, target: Target | None, newest: int | None) -> Compiler:
        known = [c for c in self.compilers if target is None or target.sm in c.architectures]
        fitting = [c for c in known if newest is None or c.version[0] <= newest]
        if not fitting:
            raise EngineError(f"the driver is of CUDA {newest}" if known else "NVRTC is not found")
        return fitting[0]

    def ask(self) -> DeviceFacts:
        if isinstance(self.facts, EngineError):
            raise self.facts
        return self.facts

    def examine(self) -> dict[str, Finding]:
        box = Box(
            root=self.root,
            facts=self.ask,
            open_driver=self.driver,
            import_pycuda=self.pycuda,
            has_pycuda=lambda: self.has_pycuda,
            find_compiler=self.find,
            may_open=lambda path: str(path.relative_to(self.root)) not in self.closed,
            user=lambda: "edgeq",
        )
        findings = presence.examine(box)
        wrong = [finding for finding in findings if not finding.is_well]
        assert presence.why_not(box) == (wrong[0].message if wrong else "")
        assert all(bool(finding.hint) != finding.is_well for finding in findings)
        return {finding.check: finding for finding in findings}


def nvrtc(major: int, *sms: int) -> Compiler:
    return Compiler(f"/nvrtc.so.{major}", (major, 0), sms or (72, 87), None)  # type: ignore[arg-type]


def write(root: Path, path: str, content: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def jetson(root: Path, jetpack: int = 6, **more) -> FakeBox:
    """A Jetson whose device cannot be asked, but that lacks nothing else."""
    write(root, "proc/device-tree/compatible", "nvidia,p3737-0000\0nvidia,tegra234\0")
    write(root, "etc/nv_tegra_release", f"# {JETSONS[jetpack]} (release), REVISION: 4.3, GCID: 3\n")
    for node in ("dev/nvmap", "dev/nvhost-gpu", "dev/nvhost-ctrl-gpu"):
        write(root, node)
    return FakeBox(root, facts=DeviceError("cuInit failed", hint="Reboot."), **more)


def desktop(root: Path, distribution: str = "ubuntu", **more) -> FakeBox:
    write(root, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    write(root, "sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    write(root, "etc/os-release", f'NAME="x"\nID={distribution}\n')
    for node in ("dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm"):
        write(root, node)
    return FakeBox(root, facts=DeviceError("cuInit failed", hint="Reboot."), **more)


# ---- all is well


def test_a_device_that_answers_needs_no_further_look(tmp_path):
    found = FakeBox(tmp_path).examine()
    assert {check: finding.message for check, finding in found.items()} == {
        "driver": "CUDA 12.6",
        "device": "Orin, sm_87, 16 multiprocessors",
        "compiler": "NVRTC 12.0 (/nvrtc.so.12)",
    }


def test_without_a_gpu_only_that_is_said_of_it(tmp_path):
    found = FakeBox(tmp_path, facts=EngineError("no driver")).examine()
    assert found["gpu"].message == "no NVIDIA GPU on this box"
    assert "backend 'cpu'" in found["gpu"].hint
    assert set(found) == {"gpu", "compiler"}


def test_another_maker_s_gpu_and_nvidia_s_other_devices_are_none(tmp_path):
    for number, (vendor, kind) in enumerate([("0x8086", "0x030000"), ("0x10de", "0x040300")]):
        write(tmp_path, f"sys/bus/pci/devices/{number}/vendor", vendor)
        write(tmp_path, f"sys/bus/pci/devices/{number}/class", kind)
    found = FakeBox(tmp_path, facts=EngineError("no driver")).examine()
    assert found["gpu"].message == "no NVIDIA GPU on this box"


def test_where_nothing_else_is_wrong_the_device_s_own_error_is_told(tmp_path):
    found = jetson(tmp_path).examine()
    assert [found[check].is_well for check in ("gpu", "driver", "permission", "pycuda")] == [
        True
    ] * 4
    assert (found["device"].message, found["device"].hint) == ("cuInit failed", "Reboot.")


# ---- the driver


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (jetson, "sudo apt install --reinstall nvidia-l4t-core nvidia-l4t-cuda"),
        (desktop, "sudo ubuntu-drivers install"),
    ],
)
def test_a_missing_libcuda_is_installed(make, mend, tmp_path):
    found = make(tmp_path, driver=fails("libcuda.so.1 does not load")).examine()
    assert not found["driver"].is_well
    assert found["driver"].message == "libcuda.so.1 does not load"
    assert mend in found["driver"].hint


@pytest.mark.parametrize(
    ("distribution", "mend"),
    [
        ("debian", "sudo apt install nvidia-driver"),
        ("fedora", "sudo dnf install akmod-nvidia"),
        ("arch", "sudo pacman -S nvidia"),
    ],
)
def test_each_distribution_installs_the_driver_its_own_way(distribution, mend, tmp_path):
    box = desktop(tmp_path, distribution, driver=fails("libcuda.so.1 does not load"))
    assert mend in box.examine()["driver"].hint


def test_a_libcuda_that_the_loader_does_not_know_is_made_known(tmp_path):
    write(tmp_path, "usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1")
    found = jetson(tmp_path, driver=fails("libcuda.so.1 does not load")).examine()["driver"]
    assert found.message == (
        "libcuda.so.1 lies in /usr/lib/aarch64-linux-gnu/tegra, where the loader does not look"
    )
    assert "sudo ldconfig" in found.hint


@pytest.mark.parametrize(("jetpack", "module"), [(5, "nvgpu"), (6, "nvgpu"), (7, "nvidia")])
def test_a_jetson_without_device_nodes_loads_its_module(jetpack, module, tmp_path):
    box = jetson(tmp_path, jetpack)
    (tmp_path / "dev/nvhost-gpu").unlink()
    found = box.examine()["gpu"]
    assert "its kernel module is not loaded" in found.message
    assert f"sudo modprobe {module}`" in found.hint


def test_a_desktop_without_device_nodes_loads_its_module(tmp_path):
    box = desktop(tmp_path)
    (tmp_path / "dev/nvidia0").unlink()
    found = box.examine()["gpu"]
    assert "/dev/nvidia0" in found.message
    assert "sudo modprobe nvidia && sudo nvidia-modprobe" in found.hint
    assert "Secure Boot" in found.hint


@pytest.mark.parametrize(
    ("make", "options"), [(jetson, "--runtime nvidia"), (desktop, "--gpus all")]
)
def test_a_container_without_the_gpu_is_started_with_it(make, options, tmp_path):
    box = make(tmp_path, driver=fails("libcuda.so.1 does not load"))
    write(tmp_path, ".dockerenv")
    assert options in box.examine()["driver"].hint
    for node in ("nvhost-gpu", "nvidia0"):
        (tmp_path / "dev" / node).unlink(missing_ok=True)
    found = box.examine()["gpu"]
    assert "the container has no device node" in found.message
    assert options in found.hint


# ---- permission


def test_a_user_outside_the_groups_of_the_nodes_is_added(tmp_path, monkeypatch):
    box = jetson(tmp_path, closed=("dev/nvhost-gpu", "dev/nvmap"))
    monkeypatch.setattr(presence, "_name_of_group", lambda number: "video")
    found = box.examine()["permission"]
    assert found.message == "user edgeq may not read and write /dev/nvmap, /dev/nvhost-gpu"
    assert "sudo usermod -aG video edgeq" in found.hint
    write(tmp_path, "run/.containerenv")
    assert "--group-add video" in box.examine()["permission"].hint


def test_nodes_of_root_alone_are_opened_up(tmp_path, monkeypatch):
    box = desktop(tmp_path, closed=("dev/nvidia0",))
    monkeypatch.setattr(presence, "_name_of_group", lambda number: "root")
    assert "sudo chmod a+rw /dev/nvidia0" in box.examine()["permission"].hint


def test_a_group_or_user_without_a_name_is_a_number():
    assert presence._name_of_group(0) == "root"
    assert presence._name_of_group(2**31 - 7) == str(2**31 - 7)
    assert presence._name_of_user(2**31 - 7) == str(2**31 - 7)
    assert presence._name_of_user(0) == "root"


def test_access_is_asked_of_the_system(tmp_path):
    write(tmp_path, "node")
    assert Box().may_open(tmp_path / "node")
    assert not Box().may_open(tmp_path / "none")
    assert Box().user()
    assert Box().root == Path("/")
    assert os.geteuid() >= 0


# ---- pycuda


@pytest.mark.parametrize(("jetpack", "version"), [(5, "11-4"), (6, "12-6"), (7, "13-0")])
def test_pycuda_is_built_with_the_cuda_of_the_jetpack(jetpack, version, tmp_path):
    found = jetson(tmp_path, jetpack, has_pycuda=False).examine()["pycuda"]
    assert found.message == "pycuda is not installed"
    assert f"cuda-nvcc-{version} cuda-cudart-dev-{version}" in found.hint
    assert "pip install pycuda" in found.hint


def test_pycuda_on_a_desktop_needs_the_toolkit(tmp_path):
    assert "CUDA toolkit" in desktop(tmp_path, has_pycuda=False).examine()["pycuda"].hint


def test_a_pycuda_that_does_not_load_says_why(tmp_path):
    found = jetson(tmp_path, pycuda=fails("undefined symbol: cuFoo")).examine()["pycuda"]
    assert found.message == "undefined symbol: cuFoo"
    assert "cuda-nvcc-12-6" in found.hint


# ---- the compiler


@pytest.mark.parametrize(("jetpack", "version"), [(5, "11-4"), (6, "12-6"), (7, "13-0")])
def test_a_missing_compiler_is_installed_from_the_jetpack(jetpack, version, tmp_path):
    box = jetson(tmp_path, jetpack, compilers=[])
    assert f"sudo apt install cuda-nvrtc-{version}" in box.examine()["compiler"].hint


def test_a_missing_compiler_on_a_desktop_comes_by_pip(tmp_path):
    found = FakeBox(tmp_path, compilers=[]).examine()["compiler"]
    assert found.message == "NVRTC is not found"
    assert "pip install nvidia-cuda-nvrtc-cu12" in found.hint


def test_a_driver_older_than_every_compiler_is_updated(tmp_path):
    box = desktop(tmp_path, compilers=[nvrtc(13)])
    box.facts = ORIN
    found = box.examine()["compiler"]
    assert found.message == "the driver is of CUDA 12"
    assert "Update the driver, `sudo ubuntu-drivers install`" in found.hint
    box = jetson(tmp_path / "jetson", 6, compilers=[nvrtc(13)])
    box.facts = ORIN
    assert "sudo apt install cuda-nvrtc-12-6" in box.examine()["compiler"].hint


def test_a_compiler_that_does_not_know_the_gpu_is_replaced_by_one_that_does(tmp_path):
    box = FakeBox(tmp_path, compilers=[nvrtc(12, 90)])
    assert "pip install nvidia-cuda-nvrtc-cu12" in box.examine()["compiler"].hint
    old = DeviceFacts("GTX", Target(61), 10, 6 << 30, False, (11, 4))
    box = FakeBox(tmp_path, compilers=[], facts=old)
    assert "nvidia-cuda-nvrtc-cu11" in box.examine()["compiler"].hint


def test_this_box_can_be_examined():
    assert {finding.check for finding in presence.examine()} >= {"compiler"}
