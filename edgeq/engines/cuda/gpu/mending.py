"""What kind of box this is -> the exact commands that mend what CUDA lacks there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# L4T's major release -> JetPack's, and the CUDA that it ships (JetPack 6.0 had 12.2).
_JETPACKS = {32: 4, 35: 5, 36: 6, 38: 7}
_CUDA_OF_JETPACK = {4: "10-2", 5: "11-4", 6: "12-6", 7: "13-0"}


@dataclass(frozen=True)
class Platform:
    """What the mends depend on."""

    is_jetson: bool = False
    jetpack: int = 0  # 0: not a Jetson, or one that does not say
    is_container: bool = False
    distribution: str = ""  # ID of /etc/os-release

    @property
    def cuda(self) -> str:
        """Return the version of JetPack's CUDA packages, as in 12-6."""
        return _CUDA_OF_JETPACK.get(self.jetpack, _CUDA_OF_JETPACK[6])

    def __str__(self) -> str:
        kind = f"Jetson, JetPack {self.jetpack or 'unknown'}" if self.is_jetson else "desktop Linux"
        return f"{kind}, in a container" if self.is_container else kind


def read_platform(root: Path = Path("/")) -> Platform:
    """Read it from the device tree, L4T's release file and /etc/os-release."""
    tree = _text(root / "proc/device-tree/compatible")
    release = re.search(r"R(\d+) \(release\)", _text(root / "etc/nv_tegra_release"))
    named = re.search(r"^ID=\"?(\w+)", _text(root / "etc/os-release"), re.MULTILINE)
    return Platform(
        is_jetson="nvidia,tegra" in tree or release is not None,
        jetpack=_JETPACKS.get(int(release[1]), 0) if release else 0,
        is_container=any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")),
        distribution=named[1] if named else "",
    )


def mend_driver(platform: Platform) -> str:
    """Return how libcuda.so.1 comes onto the box."""
    if platform.is_container:
        return _mend_container(platform)
    if platform.is_jetson:
        return (
            "Run `sudo apt install --reinstall nvidia-l4t-core nvidia-l4t-cuda && sudo ldconfig`, "
            "then reboot."
        )
    return f"Run `{_install_driver(platform)}`, then reboot."


def mend_module(platform: Platform) -> str:
    """Return how the kernel's driver comes to make its device nodes."""
    if platform.is_container:
        return _mend_container(platform)
    if platform.is_jetson:
        module = "nvidia" if platform.jetpack >= 7 else "nvgpu"
        return (
            f"Run `sudo modprobe {module}`; where that fails, `sudo apt install --reinstall "
            "nvidia-l4t-kernel nvidia-l4t-core` and reboot."
        )
    return (
        f"Run `sudo modprobe nvidia && sudo nvidia-modprobe -u -c 0`; where that fails, "
        f"`{_install_driver(platform)}`, and with Secure Boot enrol the module's key."
    )


def mend_library_path(folder: Path) -> str:
    """Return how the loader comes to know the folder where libcuda.so.1 lies."""
    return f"Run `echo {folder} | sudo tee /etc/ld.so.conf.d/nvidia.conf && sudo ldconfig`."


def mend_permission(platform: Platform, user: str, groups: list[str]) -> str:
    """Return how a user comes to be allowed to open the device nodes."""
    if platform.is_container:
        options = " ".join(f"--group-add {group}" for group in groups)
        return f"Start the container with `{options}`, or as root."
    return (
        f"Run `sudo usermod -aG {','.join(groups)} {user}` and log in again (a service: "
        "`sudo systemctl restart edgeq`)."
    )


def mend_access(nodes: list[str]) -> str:
    """Return what lets everybody open device nodes that belong to no group."""
    return f"Run `sudo chmod a+rw {' '.join(nodes)}`, or add a udev rule that does."


def mend_pycuda(platform: Platform) -> str:
    """Return how pycuda, which has no wheels, is built here."""
    if platform.is_jetson:
        version = platform.cuda
        return (
            f"Run `sudo apt install g++ python3-dev cuda-nvcc-{version} cuda-cudart-dev-{version} "
            f"libcurand-dev-{version}`, then `PATH=/usr/local/cuda/bin:$PATH pip install pycuda`."
        )
    return (
        "Install g++, Python's headers and the CUDA toolkit, then run "
        "`PATH=/usr/local/cuda/bin:$PATH pip install pycuda`."
    )


def mend_compiler(platform: Platform, driver_major: int = 0) -> str:
    """Return how NVRTC comes onto the box; one that is no newer than the driver."""
    if platform.is_jetson:
        return f"Run `sudo apt install cuda-nvrtc-{platform.cuda}`."
    if driver_major == 11:
        return "Run `pip install nvidia-cuda-nvrtc-cu11`, or update the driver to 525 or newer."
    return "Run `pip install nvidia-cuda-nvrtc-cu12`."


def mend_old_driver(platform: Platform) -> str:
    """Return what to do about a driver older than every compiler here."""
    if platform.is_jetson:
        return (
            f"Install the NVRTC of this JetPack, `sudo apt install cuda-nvrtc-{platform.cuda}`; "
            "uninstall newer wheels of nvidia-cuda-nvrtc."
        )
    return (
        f"Update the driver, `{_install_driver(platform)}`, and reboot; or install an older NVRTC."
    )


def _mend_container(platform: Platform) -> str:
    runtime = "--runtime nvidia" if platform.is_jetson else "--gpus all"
    return (
        f"Start the container with `{runtime} -e NVIDIA_DRIVER_CAPABILITIES=compute,utility`; the "
        "host needs nvidia-container-toolkit."
    )


def _install_driver(platform: Platform) -> str:
    if platform.distribution == "ubuntu":
        return "sudo ubuntu-drivers install"
    if platform.distribution in ("fedora", "rhel", "rocky", "almalinux"):
        return "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda"
    if platform.distribution == "arch":
        return "sudo pacman -S nvidia nvidia-utils"
    return "sudo apt install nvidia-driver"


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
