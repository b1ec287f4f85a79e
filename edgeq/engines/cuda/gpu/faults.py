"""A CUDA driver's error code -> a DeviceError: its name, whether the context is lost, what to do.

The codes are those of cuda.h (enum CUresult); sticky are those that leave the process "in an
inconsistent state" by its words, and the hardware errors after which no work is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.errors import DeviceError

OUT_OF_MEMORY = 2
NO_DEVICE = 100
NO_BINARY_FOR_GPU = 209
CONTEXT_IS_DESTROYED = 709
LAUNCH_FAILED = 719
UNKNOWN = 999

# What a cubin that was made for another GPU, or damaged on disk, is refused with.
UNUSABLE_IMAGE = frozenset({200, NO_BINARY_FOR_GPU, 218})

_REBUILD = "Build the bundle again on this box; its driver or GPU may have changed."
_REPORT = "Report the model and this message; backend 'cpu' serves it meanwhile."
_REBOOT = "Reboot the box; where the error comes back, the GPU or its memory is failing."
_PERMISSION = (
    "Run `edgeq doctor`; the user needs the groups video and render: "
    "`usermod -aG video,render USER`."
)
_MPS = "Restart the MPS control daemon, or run edgeq without it."


@dataclass(frozen=True)
class Fault:
    """One error code of the driver."""

    name: str
    hint: str = ""
    is_sticky: bool = False


FAULTS: Mapping[int, Fault] = {
    1: Fault("INVALID_VALUE", _REPORT),
    OUT_OF_MEMORY: Fault(
        "OUT_OF_MEMORY",
        "Stop other programs that use the GPU, or set swap.policy to drop-then-load.",
    ),
    3: Fault("NOT_INITIALIZED", _REPORT),
    4: Fault("DEINITIALIZED"),
    34: Fault(
        "STUB_LIBRARY",
        "Take the toolkit's folder `stubs` out of LD_LIBRARY_PATH: it hides the real driver.",
    ),
    46: Fault(
        "DEVICE_UNAVAILABLE",
        "End the program that holds the GPU for itself, or run `nvidia-smi -c DEFAULT`.",
    ),
    NO_DEVICE: Fault(
        "NO_DEVICE", "Check `nvidia-smi` (on a Jetson `tegrastats`) and CUDA_VISIBLE_DEVICES."
    ),
    101: Fault("INVALID_DEVICE", "Check CUDA_VISIBLE_DEVICES."),
    102: Fault("DEVICE_NOT_LICENSED", "Give the virtual GPU its licence."),
    200: Fault("INVALID_IMAGE", _REBUILD),
    201: Fault("INVALID_CONTEXT", _REPORT),
    NO_BINARY_FOR_GPU: Fault("NO_BINARY_FOR_GPU", _REBUILD),
    214: Fault("ECC_UNCORRECTABLE", _REBOOT, is_sticky=True),
    218: Fault("INVALID_PTX", _REBUILD),
    220: Fault("NVLINK_UNCORRECTABLE", _REBOOT, is_sticky=True),
    221: Fault("JIT_COMPILER_NOT_FOUND", _REBUILD),
    222: Fault("UNSUPPORTED_PTX_VERSION", "Update the GPU's driver, or build with an older NVRTC."),
    226: Fault("CONTAINED", _REBOOT, is_sticky=True),
    303: Fault("SHARED_OBJECT_INIT_FAILED", "Install the GPU's driver again."),
    304: Fault("OPERATING_SYSTEM", _PERMISSION),
    400: Fault("INVALID_HANDLE", _REPORT),
    401: Fault("ILLEGAL_STATE", _REPORT),
    500: Fault("NOT_FOUND", _REBUILD),
    600: Fault("NOT_READY"),
    700: Fault("ILLEGAL_ADDRESS", _REPORT, is_sticky=True),
    701: Fault("LAUNCH_OUT_OF_RESOURCES", _REBUILD),
    702: Fault(
        "LAUNCH_TIMEOUT",
        "Run the GPU without a display on it, or switch its watchdog off.",
        is_sticky=True,
    ),
    CONTEXT_IS_DESTROYED: Fault(
        "CONTEXT_IS_DESTROYED",
        "Run what resets the GPU's context in another process than edgeq.",
        is_sticky=True,
    ),
    710: Fault("ASSERT", _REPORT, is_sticky=True),
    714: Fault("HARDWARE_STACK_ERROR", _REPORT, is_sticky=True),
    715: Fault("ILLEGAL_INSTRUCTION", _REPORT, is_sticky=True),
    716: Fault("MISALIGNED_ADDRESS", _REPORT, is_sticky=True),
    717: Fault("INVALID_ADDRESS_SPACE", _REPORT, is_sticky=True),
    718: Fault("INVALID_PC", _REPORT, is_sticky=True),
    LAUNCH_FAILED: Fault("LAUNCH_FAILED", _REPORT, is_sticky=True),
    721: Fault("TENSOR_MEMORY_LEAK", _REPORT, is_sticky=True),
    800: Fault("NOT_PERMITTED", _PERMISSION),
    801: Fault("NOT_SUPPORTED", "Update the GPU's driver."),
    802: Fault("SYSTEM_NOT_READY", "Start nvidia-fabricmanager, or wait until the driver is up."),
    803: Fault("SYSTEM_DRIVER_MISMATCH", "Reboot: the kernel still runs the driver before this."),
    804: Fault(
        "COMPAT_NOT_SUPPORTED_ON_DEVICE",
        "Take CUDA's folder `compat` out of LD_LIBRARY_PATH, or update the GPU's driver.",
    ),
    805: Fault("MPS_CONNECTION_FAILED", _MPS),
    806: Fault("MPS_RPC_FAILURE", _MPS, is_sticky=True),
    807: Fault("MPS_SERVER_NOT_READY", _MPS),
    808: Fault("MPS_MAX_CLIENTS_REACHED", _MPS),
    809: Fault("MPS_MAX_CONNECTIONS_REACHED", _MPS),
    810: Fault("MPS_CLIENT_TERMINATED", _MPS, is_sticky=True),
    900: Fault("STREAM_CAPTURE_UNSUPPORTED", _REPORT),
    901: Fault("STREAM_CAPTURE_INVALIDATED", _REPORT),
    UNKNOWN: Fault("UNKNOWN", _REBOOT, is_sticky=True),
}

_UNLISTED = Fault("", _REPORT)


def device_error(code: int, call: str, text: str = "") -> DeviceError:
    """Return the error for what a call of the driver returned; `text` is the driver's own words."""
    fault = FAULTS.get(code, _UNLISTED)
    name = f"CUDA_ERROR_{fault.name}" if fault.name else "CUDA error"
    words = f": {text}" if text else ""
    return DeviceError(
        f"{call} failed{words} ({name}, {code})",
        hint=fault.hint,
        code=code,
        is_sticky=fault.is_sticky,
    )


def code_of(message: str, class_name: str, texts: Mapping[str, int]) -> int:
    """Find the code behind a pycuda error, which carries "cuCall failed: words" and no code.

    Args:
        message: of the error.
        class_name: of the error, which tells four kinds apart where the words are unknown.
        texts: the driver's words -> its code.
    """
    words = f"{message} ".partition(" failed: ")[2].partition(" - ")[0].strip()
    by_class = {"MemoryError": OUT_OF_MEMORY, "LaunchError": LAUNCH_FAILED}
    return texts.get(words, by_class.get(class_name, 0 if class_name != "Error" else UNKNOWN))
