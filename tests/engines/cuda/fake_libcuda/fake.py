"""A machine whose GPU is none: libcuda.so.1 and libnvrtc.so.12 of our own under the real pycuda.

Children run in its environment; what is alive there is read from outside, and faults are planned.
"""

from __future__ import annotations

import functools
import mmap
import os
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines.cuda.emulator.emulator import HERE as EMULATOR
from tests.engines.cuda.emulator.emulator import emulator
from tests.run_folder import made_once

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
SOURCES = ("driver.cpp", "streams.cpp", "memory.cpp", "modules.cpp")
BUILD_S = 900
CHILD_S = 120

COUNTERS = (
    "contexts",
    "allocations",
    "allocated_bytes",
    "pinned",
    "modules",
    "streams",
    "events",
    "graphs",
    "executable_graphs",
    "pushed_contexts",
    "threads_left_pushed",
    "calls",
    "kernels",
    "graph_launches",
)
NOT_ALIVE = ("calls", "kernels", "graph_launches")
_NUMBERS = struct.Struct("<32q")
_REQUEST = struct.Struct("<q512s")


class Control:
    """What the fake of a process counts, and the faults that are planned for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(_NUMBERS.size + _REQUEST.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def counters(self) -> dict[str, int]:
        """Return everything that is counted."""
        return dict(zip(COUNTERS, _NUMBERS.unpack_from(self._memory), strict=False))

    def alive(self) -> dict[str, int]:
        """Return what was made and not freed: only the counters that are not zero."""
        counted = self.counters().items()
        return {name: count for name, count in counted if count and name not in NOT_ALIVE}

    def plan(self, *faults: str) -> None:
        """Plan faults, in the place of all planned before.

        'cuMemAlloc_v2:3:2': the third call from now on returns 2. 'kernel:1:700': the next kernel
        to run ends, and its context with it, in a sticky 700.
        """
        request, _ = _REQUEST.unpack_from(self._memory, _NUMBERS.size)
        text = ";".join(faults).encode()
        self._memory[_NUMBERS.size + 8 : _NUMBERS.size + 8 + 512] = text.ljust(512, b"\0")
        self._memory[_NUMBERS.size : _NUMBERS.size + 8] = struct.pack("<q", request + 1)

    def close(self) -> None:
        self._memory.close()


@dataclass(frozen=True)
class FakeCuda:
    """The libraries, and the folder of pycuda and what it needs."""

    folder: Path
    site: Path


@dataclass(frozen=True)
class FakeGpu:
    """What a test has of them: processes to start, and their counters and faults."""

    libraries: FakeCuda
    control: Control

    def environment(self, **settings: object) -> dict[str, str]:
        """Return the environment of a process on a machine with this GPU.

        `settings`: sm, integrated, multiprocessors, memory (bytes), driver (as 12090), devices,
        name, seed (of the emulator's schedule).
        """
        folder = self.libraries.folder
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(folder),
            "PYTHONPATH": os.pathsep.join([str(self.libraries.site), str(ROOT)]),
            "EDGEQ_NVRTC": str(folder / "libnvrtc.so.12"),
            "FAKE_NVRTC_COMMAND": shlex.quote(str(emulator().compiler)),
            "FAKE_CUDA_CONTROL": str(self.control.path),
            **{f"FAKE_CUDA_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def run(self, code: str, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run a Python program in a child."""
        return subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=CHILD_S,
            check=False,
        )

    def output(self, code: str, **settings: object) -> str:
        """Run a Python program that must end well, and return what it says."""
        done = self.run(code, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@functools.cache
def fake_cuda() -> FakeCuda:
    """Return the session's fake; skips the test where it cannot be built."""
    runtime = emulator().runtime
    site, problem = _pycuda_site()
    if problem:
        pytest.skip(f"pycuda cannot be built: {problem}")

    def build(folder: Path) -> None:
        _compile(["nvrtc.cpp"], folder / "libnvrtc.so.12")
        stubs = folder / "stubs.cpp"
        stubs.write_text(_stubs(site))
        link = [f"-L{runtime.parent}", "-lemulator", f"-Wl,-rpath,{runtime.parent}", "-ldl"]
        options = [f"-I{EMULATOR}", "-Wl,-soname,libcuda.so.1"]
        _compile([*SOURCES, stubs], folder / "libcuda.so.1", *options, *link)

    return FakeCuda(made_once("fake_cuda", build), site)


@functools.cache
def _pycuda_site() -> tuple[Path, str]:
    """Return where pycuda is, or why it is nowhere; one attempt a session."""
    tool = ROOT / "tools" / "build_pycuda.py"
    done = subprocess.run(
        [sys.executable, tool, "--quick", "--site"],
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    return Path(done.stdout.strip()), done.stderr.strip()[-300:] if done.returncode else ""


def _stubs(site: Path) -> str:
    """Give every call of pycuda's that the fake lacks an answer: it is not supported."""
    (library,) = (site / "pycuda").glob("_driver*.so")
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    )
    names = sorted(set(re.findall(r"\bU (cu[A-Z]\w+)", listed.stdout)))
    return "\n".join(
        f'extern "C" __attribute__((weak)) int {name}() {{ return 801; }}' for name in names
    )


def _compile(sources: Sequence[object], target: Path, *options: object) -> None:
    paths = [HERE / str(source) for source in sources]
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", *paths, "-o", target, *options]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
