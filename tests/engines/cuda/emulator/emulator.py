"""A rendered kernel -> a library that g++ makes of it, run in a child process on the CPU."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.run_folder import made_once

HERE = Path(__file__).resolve().parent
RUNTIME = ("runtime.cpp", "switch.cpp", "collectives.cpp", "faults.cpp")
CHECKED = "bounds,alignment,shift-exponent,integer-divide-by-zero,float-cast-overflow"
KERNEL_OPTIONS = (
    "-x",
    "c++",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-O1",
    "-w",
    "-DEQ_EMULATED",
    f"-I{HERE}",
    "-ffp-contract=off",  # no multiply-add where the kernel says multiply, then add
    "-fwrapv",  # int32 wraps around, as on the device
    "-fno-strict-aliasing",
    "-fsigned-char",  # as NVRTC has it, on every host
    "-fno-gnu-unique",
    f"-fsanitize={CHECKED}",
    "-fno-sanitize-recover=all",
    "-nodefaultlibs",  # the runtime has the handlers of -fsanitize
)
COMPILER = """\
#!/bin/sh
# compile SOURCE -o LIBRARY: as g++ does it; what another process compiled is taken from there.
set -eu
digest=$(sha256sum <"$1")
kept="{folder}/${{digest%% *}}.so"
if [ ! -e "$kept" ]; then
  {command} "$1" -o "$kept.$$"
  mv "$kept.$$" "$kept"
fi
cp "$kept" "$3"
"""
POISONED_LOCALS = "-ftrivial-auto-var-init=pattern"  # from GCC 12 on


class EmulatorFault(AssertionError):
    """A kernel did what no kernel may: a wild address, a deadlock, a race for a barrier."""


class Runner:
    """One child process; after a fault it is gone."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def command(self, *words: object) -> str:
        """Return the answer to a command, without its 'ok'."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            self._process.stdin.write(" ".join(map(str, words)) + "\n")
            answer = self._process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if answer.startswith("ok"):
            return answer[3:]
        said = answer or self._process.stderr.read().strip()
        if not answer:
            status = self._process.wait()
            said = said or f"the emulator ended with status {status}"
            self.close()
        raise EmulatorFault(said)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
        self._process.wait()


class Emulator:
    """Compiles kernels, each once in a run of the tests, and keeps idle runners."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idle: list[Runner] = []
        self.compiler = folder / "compile"
        self.runtime = folder / "libemulator.so"
        self._program = folder / "runner"

    def library(self, source: str) -> Path:
        """Compile a rendered source."""
        path = self.folder / f"{hashlib.sha256(source.encode()).hexdigest()}.so"
        if not path.exists():
            text = path.with_suffix(f".{os.getpid()}.cu")
            text.write_text(source)
            _run([self.compiler, text, "-o", text.with_suffix(".so")])
        return path

    def runner(self) -> Runner:
        """Take an idle child process, or start one."""
        while self._idle:
            runner = self._idle.pop()
            if runner.is_alive:
                return runner
            runner.close()
        return Runner(self._program)

    def give_back(self, runner: Runner) -> None:
        self._idle.append(runner)

    def close(self) -> None:
        for runner in self._idle:
            runner.close()
        self._idle.clear()


@functools.cache
def emulator() -> Emulator:
    """Return the session's emulator; skips the test where there is no g++."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to emulate kernels; it is not installed")
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"the emulator switches stacks on x86-64 and aarch64, not {platform.machine()}")
    result = Emulator(made_once("emulator", _build))
    atexit.register(result.close)
    return result


def _build(folder: Path) -> None:
    """Build the runtime, the runner, and a compiler of kernels that compiles each source once."""
    runtime = folder / "libemulator.so"
    sources = [HERE / name for name in RUNTIME]
    soname = f"-Wl,-soname,{runtime.name}"
    _run(["g++", "-std=c++17", "-O2", "-fPIC", "-shared", soname, *sources, "-o", runtime])
    link = [f"-L{folder}", "-lemulator", f"-Wl,-rpath,{folder}", "-ldl"]
    _run(["g++", "-std=c++17", "-O1", HERE / "runner.cpp", "-o", folder / "runner", *link])
    compiler = folder / "compile"
    command = shlex.join(["g++", *KERNEL_OPTIONS, *_poisoned_locals()])
    compiler.write_text(COMPILER.format(folder=folder, command=command))
    compiler.chmod(0o700)


def with_source_line(message: str, source: str) -> str:
    """Add the text of the line that a message names."""
    found = re.search(r"in line (\d+)", message)
    lines = source.splitlines()
    if found is None or not 0 < int(found[1]) <= len(lines):
        return message
    return f"{message}\n    {lines[int(found[1]) - 1].strip()}"


def _poisoned_locals() -> tuple[str, ...]:
    said = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=True)
    return (POISONED_LOCALS,) if int(said.stdout.split(".")[0]) >= 12 else ()


def _run(command: Sequence[object]) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulatorFault(f"g++ refuses the source:\n{done.stderr[:4000]}")
