#!/usr/bin/env python3
"""Build a wheel of pycuda on a machine without a GPU, a driver or the CUDA toolkit.

Prints the wheel's path. PyPI has only pycuda's source, whose build looks for nvcc, curand and
libcuda; none of them is needed: the headers come from the wheel nvidia-cuda-runtime-cu12, curand
is left out, and the linker is shown an empty libcuda.so.1. The wheel runs where a real driver is
(of CUDA 12: it calls no newer version of a function), for the Python that built it.

    tools/build_pycuda.py            into .tools/pycuda, once
    tools/build_pycuda.py --quick    not optimized: for tests
    tools/build_pycuda.py --site     installs it into a folder too, and prints that: for PYTHONPATH
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYCUDA = "pycuda==2026.1"
HEADERS = "nvidia-cuda-runtime-cu12==12.9.79"
BUILDERS = ("setuptools>=68,<81", "wheel>=0.40")  # pycuda's setup.py needs no newer ones
NEEDS = ("g++", "gcc")

# The header that the wheel lacks; curand, which is left out, is the only other one.
PROFILER_HEADER = """#pragma once
#include <cuda.h>
extern "C" {
typedef enum { CU_OUT_KEY_VALUE_PAIR = 0, CU_OUT_CSV = 1 } CUoutput_mode;
CUresult CUDAAPI cuProfilerInitialize(const char*, const char*, CUoutput_mode);
CUresult CUDAAPI cuProfilerStart(void);
CUresult CUDAAPI cuProfilerStop(void);
}
"""

# Read before every source: nearly all of them begin with it, and spend their time there.
COMMON_HEADER = """#if __has_include(<boost/python/object.hpp>)
#include <boost/python/object.hpp>
#endif
"""

# What pycuda's setup.py runs as its configuration. Its 40 sources of Boost.Python do not depend on
# each other, so they are compiled at once; with the common header compiled before them, and without
# optimization, that takes half of the processor's time.
SITECONF = """
CUDA_ROOT = {headers!r}
CUDA_INC_DIR = [{headers!r} + "/include"]
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = [{stubs!r}]
CXXFLAGS = {options!r} + ["-include", {header!r}]
LDFLAGS = ["-L" + {stubs!r}, "-Wl,--no-as-needed", "-lcuda"]


def _compile_at_once():
    import os
    import setuptools  # which brings distutils along
    from concurrent.futures import ThreadPoolExecutor
    from distutils.unixccompiler import UnixCCompiler

    one_by_one = UnixCCompiler.compile

    def precompile(self, output_dir=None, macros=None, include_dirs=None, debug=0,
                   extra_preargs=None, extra_postargs=None, depends=None):
        macros, _, postargs, options, _ = self._setup_compile(
            output_dir, macros, include_dirs, [], depends, extra_postargs
        )
        arguments = self._get_cc_args(options, debug, extra_preargs)
        arguments += ["-x", "c++-header", {header!r}, "-o", {header!r} + ".gch"]
        arguments += [option for option in postargs if option not in ("-include", {header!r})]
        self.spawn(self.compiler_so + arguments)

    def compile_all(self, sources, *positional, **named):
        if len(sources) > 1:
            precompile(self, *positional, **named)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            one = lambda source: one_by_one(self, [source], *positional, **named)
            return [path for paths in pool.map(one, sources) for path in paths]

    UnixCCompiler.compile = compile_all


_compile_at_once()
del _compile_at_once
"""


class BuildFailed(Exception):
    """What went wrong, in a sentence."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="do not optimize: for tests")
    parser.add_argument("--site", action="store_true", help="install it into a folder, print that")
    parser.add_argument("--out", type=Path, default=ROOT / ".tools" / "pycuda", metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with alone_in(options.out):
            wheel = build(options.out, quick=options.quick)
            print(install(wheel) if options.site else wheel)
    except BuildFailed as failure:
        print(f"build_pycuda: {failure}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait for other processes that build: what the first one made is there for all."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(out: Path, *, quick: bool) -> Path:
    """Return the wheel for this Python, built if it is not there yet."""
    kept = out / _key(quick)
    if found := sorted(kept.glob("pycuda-*.whl")):
        return found[0]
    if missing := [name for name in NEEDS if shutil.which(name) is None]:
        raise BuildFailed(f"needs {' and '.join(missing)}; install g++")
    with tempfile.TemporaryDirectory(prefix="build.", dir=out) as folder:
        wheel = _build_in(Path(folder), quick)
        kept.mkdir(exist_ok=True)
        return Path(shutil.copy(wheel, kept / wheel.name))


def install(wheel: Path) -> Path:
    """Return the folder beside the wheel that holds pycuda and what it needs, NumPy left out."""
    site = wheel.parent / "site"
    if not site.exists():
        with tempfile.TemporaryDirectory(prefix="site.", dir=wheel.parent) as folder:
            _pip("install", "--only-binary", ":all:", "--target", Path(folder) / "site", wheel)
            (Path(folder) / "site").rename(site)
    return site


def _key(quick: bool) -> str:
    """Name what the wheel depends on."""
    text = f"{Path(__file__).read_text()}{sys.version}{quick}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _build_in(work: Path, quick: bool) -> Path:
    builders = {**os.environ, "PYTHONPATH": str(work / "builders"), "CUDA_ROOT": ""}
    _pip("install", "--target", work / "builders", *BUILDERS)
    _pip("download", "--no-deps", "--only-binary", ":all:", HEADERS, "--dest", work)
    source_only = ("--no-deps", "--no-binary", "pycuda", "--no-build-isolation")
    _pip("download", *source_only, PYCUDA, "--dest", work, env=builders)
    headers = _unpack_headers(work)
    stubs = _make_stub(work)
    with tarfile.open(next(work.glob("pycuda-*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    source = next(path for path in work.glob("pycuda-*") if path.is_dir())
    flags = ["-O0", "-g0", "-w"] if quick else ["-O2", "-g0", "-w"]
    common = work / "common.hpp"
    common.write_text(COMMON_HEADER)
    places = {"headers": str(headers), "stubs": str(stubs), "header": str(common)}
    text = SITECONF.format(**places, options=flags)
    (source / "siteconf.py").write_text(text)
    made = work / "made"
    _run([sys.executable, "setup.py", "-q", "bdist_wheel", "-d", made], cwd=source, env=builders)
    return next(made.glob("pycuda-*.whl"))


def _unpack_headers(work: Path) -> Path:
    with zipfile.ZipFile(next(work.glob("nvidia_cuda_runtime*.whl"))) as archive:
        archive.extractall(work / "headers")
    root = work / "headers" / "nvidia" / "cuda_runtime"
    (root / "include" / "cudaProfiler.h").write_text(PROFILER_HEADER)
    return root


def _make_stub(work: Path) -> Path:
    """Make a libcuda with no symbols: the real one has them when the wheel is used."""
    stubs = work / "stubs"
    stubs.mkdir()
    soname = "-Wl,-soname,libcuda.so.1"
    _run(["gcc", "-shared", soname, "-o", stubs / "libcuda.so", "-x", "c", "/dev/null"])
    return stubs


def _pip(command: str, *arguments: object, env: dict[str, str] | None = None) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    _run([sys.executable, "-m", "pip", command, *quiet, *arguments], env=env)


def _run(
    command: Sequence[object], cwd: Path | None = None, env: dict[str, str] | None = None
) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BuildFailed(f"{' '.join(words[:4])} failed:\n{said}")


if __name__ == "__main__":
    sys.exit(main())
