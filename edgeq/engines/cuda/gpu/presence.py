"""This box -> whether its GPU can be used; if not, what is missing and the command that mends it.

Nothing is imported or opened before it is asked for; all that is asked of the box is a field of
`Box`, so that tests fake every condition.
"""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeq.engines.cuda.compiling import nvrtc
from edgeq.engines.cuda.compiling.nvrtc import Compiler
from edgeq.engines.cuda.gpu import mending
from edgeq.engines.cuda.gpu.device import DeviceFacts, facts, pycuda_driver
from edgeq.engines.cuda.gpu.driver import SONAME, Driver
from edgeq.engines.cuda.gpu.mending import Platform
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError

# What a CUDA process opens: one of these a platform. Thor's JetPack 7 has the desktop's.
_GPU_NODES = ("dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl", "dev/nvidia0", "dev/dxg")
_NODES = (
    "dev/nvmap", "dev/nvhost-ctrl", "dev/nvhost-ctrl-gpu", "dev/nvhost-as-gpu",
    "dev/nvidiactl", "dev/nvidia-uvm", *_GPU_NODES,
)  # fmt: skip
_LIBRARY_FOLDERS = (
    "usr/lib/aarch64-linux-gnu/tegra",
    "usr/lib/aarch64-linux-gnu/nvidia",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/lib/wsl/lib",
)
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True)
class Finding:
    """One thing that the CUDA backend needs, and whether it is there."""

    check: str  # gpu, driver, permission, pycuda, device, compiler
    is_well: bool
    message: str
    hint: str = ""  # one imperative sentence where it is not well


@dataclass(frozen=True)
class Box:
    """What is asked of this box."""

    root: Path = Path("/")
    facts: Callable[[], DeviceFacts] = facts
    open_driver: Callable[[], object] = Driver.open
    import_pycuda: Callable[[], object] = pycuda_driver
    has_pycuda: Callable[[], bool] = lambda: importlib.util.find_spec("pycuda") is not None
    find_compiler: Callable[[Target | None, int | None], Compiler] = lambda target, newest: (
        nvrtc.find_compiler(target, newest_major=newest)
    )
    may_open: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)
    user: Callable[[], str] = lambda: _name_of_user(os.geteuid())


def why_not(box: Box | None = None) -> str:
    """Return in one line why this box's GPU cannot be used, "" where it can."""
    lacking = [finding for finding in examine(box) if not finding.is_well]
    return lacking[0].message if lacking else ""


def examine(box: Box | None = None) -> tuple[Finding, ...]:
    """Return all findings, in the order in which they are to be mended."""
    box = box or Box()
    platform = mending.read_platform(box.root)
    try:
        found = box.facts()
    except EngineError as error:
        return (*_why_no_device(box, platform, error), _compiler(box, platform, None))
    return (
        Finding("driver", True, f"CUDA {_dotted(found.driver)}"),
        Finding("device", True, _described(found)),
        _compiler(box, platform, found),
    )


def _why_no_device(box: Box, platform: Platform, error: EngineError) -> list[Finding]:
    findings = [_gpu(box, platform)]
    if not findings[0].is_well:
        return findings
    findings += [_driver(box, platform), _permission(box, platform), _pycuda(box, platform)]
    if all(finding.is_well for finding in findings):
        findings.append(Finding("device", False, error.message, error.hint))
    return findings


def _gpu(box: Box, platform: Platform) -> Finding:
    """Look for the hardware, and for the device nodes by which the kernel's driver offers it."""
    nodes = [node for node in _GPU_NODES if (box.root / node).exists()]
    if nodes:
        return Finding("gpu", True, ", ".join(f"/{node}" for node in nodes))
    if not platform.is_jetson and not _has_pci_gpu(box.root):
        return Finding("gpu", False, "no NVIDIA GPU on this box", "Use backend 'cpu'.")
    names = ", ".join(f"/{node}" for node in _GPU_NODES[: 3 if platform.is_jetson else None])
    message = (
        f"the NVIDIA GPU has no device node (none of {names}): its kernel module is not loaded"
    )
    if platform.is_container:
        message = f"the container has no device node of the host's GPU (none of {names})"
    return Finding("gpu", False, message, mending.mend_module(platform))


def _has_pci_gpu(root: Path) -> bool:
    for device in (root / "sys/bus/pci/devices").glob("*"):
        is_nvidia = _text(device / "vendor") == _NVIDIA
        if is_nvidia and _text(device / "class").startswith(_DISPLAY_CLASS):
            return True
    return False


def _driver(box: Box, platform: Platform) -> Finding:
    try:
        box.open_driver()
    except EngineError as error:
        for folder in _LIBRARY_FOLDERS:
            if (box.root / folder / SONAME).exists():
                place = Path("/") / folder
                message = f"{SONAME} lies in {place}, where the loader does not look"
                return Finding("driver", False, message, mending.mend_library_path(place))
        return Finding("driver", False, error.message, mending.mend_driver(platform))
    return Finding("driver", True, SONAME)


def _permission(box: Box, platform: Platform) -> Finding:
    nodes = [box.root / node for node in _NODES if (box.root / node).exists()]
    closed = [node for node in nodes if not box.may_open(node)]
    if not closed:
        return Finding("permission", True, f"{len(nodes)} device nodes")
    user = box.user()
    names = [f"/{node.relative_to(box.root)}" for node in closed]
    message = f"user {user} may not read and write {', '.join(names)}"
    groups = sorted({_name_of_group(node.stat().st_gid) for node in closed} - {"root"})
    if groups:
        return Finding(
            "permission", False, message, mending.mend_permission(platform, user, groups)
        )
    return Finding("permission", False, message, mending.mend_access(names))


def _pycuda(box: Box, platform: Platform) -> Finding:
    if not box.has_pycuda():
        return Finding("pycuda", False, "pycuda is not installed", mending.mend_pycuda(platform))
    try:
        box.import_pycuda()
    except EngineError as error:
        return Finding("pycuda", False, error.message, error.hint or mending.mend_pycuda(platform))
    return Finding("pycuda", True, "pycuda")


def _compiler(box: Box, platform: Platform, found: DeviceFacts | None) -> Finding:
    target, newest = (found.target, found.driver[0]) if found else (None, None)
    try:
        compiler = box.find_compiler(target, newest)
    except EngineError as error:
        hint = mending.mend_compiler(platform, newest or 0)
        if newest and _has_compiler(box, target):
            hint = mending.mend_old_driver(platform)
        return Finding("compiler", False, error.message, hint)
    return Finding("compiler", True, f"NVRTC {_dotted(compiler.version)} ({compiler.path})")


def _has_compiler(box: Box, target: Target | None) -> bool:
    """Say whether one knows the target, of whatever age the driver is."""
    try:
        box.find_compiler(target, None)
    except EngineError:
        return False
    return True


def _described(found: DeviceFacts) -> str:
    return f"{found.name}, {found.target.name}, {found.multiprocessors} multiprocessors"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _name_of_group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _name_of_user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
