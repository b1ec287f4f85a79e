"""CUDA C source -> a cubin or PTX, in this process: NVRTC of a toolkit or of a wheel, by ctypes."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError

OVERRIDE = "EDGEQ_NVRTC"  # the path of a libnvrtc, before all that is found
OPTIONS = ("-std=c++17",)
SONAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2")  # 11.2 to 11.8 share one name
INSTALL_HINT = (
    "Install it: on a Jetson `apt install cuda-nvrtc-12-6` (JetPack 6; cuda-nvrtc-11-4 on 5, "
    "cuda-nvrtc-13-0 on 7), elsewhere `pip install nvidia-cuda-nvrtc-cu12`; or name a libnvrtc in "
    f"{OVERRIDE}."
)

_OLDEST = (11, 2)  # the first that lists its architectures; cubins came with 11.1

Kind = Literal["cubin", "ptx"]
Version = tuple[int, int]


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one source, and what it had to say."""

    image: bytes
    log: str


@dataclass(frozen=True)
class Compiler:
    """One libnvrtc; safe to use from several threads at once."""

    path: str
    version: Version
    architectures: tuple[int, ...]  # it can make cubins for
    library: ctypes.CDLL = field(repr=False, compare=False)

    def compile(
        self,
        source: str,
        target: Target,
        kind: Kind = "cubin",
        options: Sequence[str] = OPTIONS,
        name: str = "kernel.cu",
    ) -> Compiled:
        """Compile one source that includes nothing; `name` is what errors call it.

        Raises:
            EngineError: the compiler does not know the target, or refuses the source.
        """
        prefix = {"cubin": "sm", "ptx": "compute"}[kind]
        arguments = [f"-arch={prefix}_{target.sm}", *options]
        program = self._create(source, name)
        try:
            result = self.library.nvrtcCompileProgram(program, len(arguments), _strings(arguments))
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace")
            if result:
                raise self._refused(result, name, target, log)
            return Compiled(self._read(program, kind.upper()), log.strip())
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _create(self, source: str, name: str) -> ctypes.c_void_p:
        program = ctypes.c_void_p()
        result = self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        )
        self._check(result, "create a program")
        return program

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        """Return what `nvrtcGet<what>` gives, whose length `nvrtcGet<what>Size` tells."""
        size = ctypes.c_size_t()
        result = getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        self._check(result, f"tell the size of its {what}")
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.library, f"nvrtcGet{what}")(program, buffer), f"give its {what}")
        return buffer.raw

    def _refused(self, result: int, name: str, target: Target, log: str) -> EngineError:
        who = f"{_named(self.version)} ({self.path})"
        if target.sm not in self.architectures:
            return _knows_not(target, [self])
        errors = [line for line in log.splitlines() if "error" in line] or [log.strip()]
        reason = "; ".join(errors[:3]) or _error_string(self.library, result)
        return EngineError(
            f"{who} cannot compile {name} for {target.name}: {reason}",
            hint="Use backend 'cpu' for this model, and report the kernel with this message.",
        )

    def _check(self, result: int, what: str) -> None:
        if result:
            reason = _error_string(self.library, result)
            raise EngineError(f"{_named(self.version)} ({self.path}) cannot {what}: {reason}")


def find_compiler(target: Target | None = None, *, newest_major: int | None = None) -> Compiler:
    """Return the first NVRTC of this box that can compile for `target`.

    A driver loads what compilers of its own major version and older ones made: `newest_major`.

    Raises:
        EngineError: none is found, or none that will do.
    """
    compilers, problems = find_all()
    for compiler in compilers:
        fits = target is None or target.sm in compiler.architectures
        if fits and (newest_major is None or compiler.version[0] <= newest_major):
            return compiler
    if not compilers:
        found = f" ({'; '.join(problems)})" if problems else ""
        raise EngineError(f"NVRTC, the CUDA compiler, is not found{found}", hint=INSTALL_HINT)
    if newest_major is not None and all(c.version[0] > newest_major for c in compilers):
        raise _too_new(newest_major, compilers)
    raise _knows_not(target, compilers)


def compile_source(
    source: str, target: Target, kind: Kind = "cubin", options: Sequence[str] = OPTIONS
) -> Compiled:
    """Compile with the first NVRTC that knows the target.

    Raises:
        EngineError: as `find_compiler` and `Compiler.compile`.
    """
    return find_compiler(target).compile(source, target, kind, options)


def find_all() -> tuple[list[Compiler], list[str]]:
    """Return an NVRTC of each version, best first, and why others that were found do not load."""
    compilers: dict[Version, Compiler] = {}
    problems: list[str] = []
    for path in candidates(os.environ):
        try:
            compiler = load(path)
            compilers.setdefault(compiler.version, compiler)
        except EngineError as error:
            if "/" in path:  # a bare soname is only a question to the loader
                problems.append(error.message)
    return list(compilers.values()), problems


def load(path: str) -> Compiler:
    """Open a libnvrtc by its path, or by a soname that the loader knows.

    Raises:
        EngineError: it does not load, or is too old.
    """
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_LOCAL)
        version = _version(library)
        _preload_builtins(path, version)
        return Compiler(path, version, _architectures(library), library)
    except OSError as error:
        raise EngineError(f"{path} does not load: {error}", hint=INSTALL_HINT) from error
    except AttributeError as error:
        raise EngineError(
            f"{path} is no NVRTC of CUDA {_OLDEST[0]}.{_OLDEST[1]} or later: {error}",
            hint=INSTALL_HINT,
        ) from error


def candidates(
    environment: Mapping[str, str],
    root: Path = Path("/"),
    search_path: Sequence[str] | None = None,
) -> Iterator[str]:
    """Yield where an NVRTC may be, best first, each file once.

    The one named; those of a toolkit or the distribution, which fit the box's driver; wheels; at
    last what only the loader knows. (Not before: it also knows what this process has loaded, and
    the order would change.)
    """
    if named := environment.get(OVERRIDE):
        yield named
        return
    places = [*_of_toolkits(environment, root), *_of_system(environment, root)]
    yield from _once([*places, *_of_wheels(search_path)])
    yield from SONAMES


def _once(paths: Sequence[Path]) -> list[str]:
    """Leave out every path to a file that an earlier one leads to."""
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(path.resolve(), path)
    return [str(path) for path in first.values()]


def _of_toolkits(environment: Mapping[str, str], root: Path) -> list[Path]:
    named = [environment.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT")]
    local = root / "usr/local"
    homes = [Path(home) for home in named if home] + [local / "cuda"]
    homes += sorted(local.glob("cuda-*"), key=_digits, reverse=True)
    folders = [folder for home in homes for folder in (home / "lib64", *home.glob("targets/*/lib"))]
    return [path for folder in folders for path in _libraries(folder)]


def _of_system(environment: Mapping[str, str], root: Path) -> list[Path]:
    named = [Path(folder) for folder in environment.get("LD_LIBRARY_PATH", "").split(":") if folder]
    usual = [*sorted((root / "usr/lib").glob("*-linux-gnu")), root / "usr/lib64", root / "usr/lib"]
    return [path for folder in [*named, *usual] for path in _libraries(folder)]


def _of_wheels(search_path: Sequence[str] | None) -> list[Path]:
    """Those of nvidia-cuda-nvrtc-cu11, -cu12 (nvidia/cuda_nvrtc) and of 13 on (nvidia/cu13)."""
    if search_path is None:
        spec = importlib.util.find_spec("nvidia")
        search_path = list(spec.submodule_search_locations or ()) if spec else []
    folders = [f for place in search_path for f in sorted(Path(place).glob("*/lib"), reverse=True)]
    return [path for folder in [*folders, Path(sys.prefix) / "lib"] for path in _libraries(folder)]


def _libraries(folder: Path) -> list[Path]:
    named = [path for path in folder.glob("libnvrtc.so.*") if _digits(path)]
    return sorted(named, key=_digits)  # libnvrtc.so.12 before the libnvrtc.so.12.9.86 it links to


def _digits(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _version(library: ctypes.CDLL) -> Version:
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _preload_builtins(path: str, version: Version) -> None:
    """Load the library of built-in headers that lies beside: NVRTC asks for it by name alone.

    NVRTC 13.0 has no run path; without this it finds nothing outside LD_LIBRARY_PATH.
    """
    beside = Path(path).resolve().parent / f"libnvrtc-builtins.so.{version[0]}.{version[1]}"
    if "/" in path and beside.exists():
        ctypes.CDLL(str(beside), mode=os.RTLD_GLOBAL)


def _architectures(library: ctypes.CDLL) -> tuple[int, ...]:
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    listed = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(listed)
    return tuple(listed)


def _strings(values: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(values))(*[value.encode() for value in values])


def _error_string(library: ctypes.CDLL, result: int) -> str:
    function = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)(("nvrtcGetErrorString", library))
    return (function(result) or b"").decode("ascii", "replace")


def _named(version: Version) -> str:
    return f"NVRTC {version[0]}.{version[1]}"


def _knows_not(target: Target | None, compilers: Sequence[Compiler]) -> EngineError:
    listed = "; ".join(
        f"{_named(c.version)} ({c.path}) knows {', '.join(f'sm_{sm}' for sm in c.architectures)}"
        for c in compilers
    )
    wanted = target.name if target else "any"
    return EngineError(f"no NVRTC here compiles for {wanted}: {listed}", hint=_which(target))


def _which(target: Target | None) -> str:
    if target and target.sm >= 110:
        return "Install NVRTC 13: `pip install nvidia-cuda-nvrtc`, or CUDA 13."
    return "Install NVRTC 12.9, which knows sm_50 to sm_121: `pip install nvidia-cuda-nvrtc-cu12`."


def _too_new(newest_major: int, compilers: Sequence[Compiler]) -> EngineError:
    listed = ", ".join(f"{_named(c.version)} ({c.path})" for c in compilers)
    return EngineError(
        f"the driver is of CUDA {newest_major} and cannot load what {listed} compiles",
        hint=f"Install the NVRTC of CUDA {newest_major}, or a newer driver.",
    )
