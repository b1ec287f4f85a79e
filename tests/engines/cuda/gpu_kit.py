"""What the engine's tests need in a process of its own, where libcuda is the fake one.

`hold` runs a check of `engine_checks` or `fault_checks` in one. A check that fails raises; one that
holds says so at the end, so that a process that just vanished is not taken for one that agreed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import mmap
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.engines.cpu import CpuEngine
from edgeq.engines.cuda.backend import make_package
from edgeq.engines.cuda.engine import CudaEngine, CudaModel, GpuSection
from edgeq.engines.cuda.gpu.context import shared_gpu
from edgeq.engines.cuda.package import as_model
from tests.engines.cuda.fake_libcuda.fake import Control, FakeGpu

HELD = "this holds"
Arrays = dict[str, Any]


class OwnControl(Control):
    """The control of the process that it is in."""

    def __init__(self) -> None:
        self.path = Path(os.environ["FAKE_CUDA_CONTROL"])
        with self.path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def faults(self) -> bytes:
        """Return what is planned, as text."""
        return self._memory[-512:].rstrip(bytes(1))

    def count(self, name: str) -> int:
        """Return one counter."""
        return self.counters()[name]


@dataclass(frozen=True)
class Kit:
    """A model and what it answers on the CPU; `control` is the fake driver's."""

    folder: Path
    name: str = "whole"

    @functools.cached_property
    def content(self) -> bytes:
        return (self.folder / f"{self.name}.tflite").read_bytes()

    @functools.cached_property
    def model(self) -> CudaModel:
        made = make_package(self.content, f"sm_{os.environ['FAKE_CUDA_SM']}", threads=2)
        cubins = {kernel: compiled.image for kernel, compiled in made.kernels.items()}
        return as_model(made.planned, cubins)

    @functools.cached_property
    def inputs(self) -> list[Arrays]:
        with np.load(self.folder / "inputs.npz") as stored:
            return [{name: row[np.newaxis] for name in stored for row in [stored[name][n]]}
                    for n in range(4)]  # fmt: skip

    @functools.cached_property
    def expected(self) -> list[Arrays]:
        with contextlib.closing(CpuEngine(self.content, "cpu-int8", threads=1)) as engine:
            return [engine.infer(given) for given in self.inputs]

    def engine(self, **options: Any) -> CudaEngine:
        return CudaEngine(self.model, **options)

    def check(self, engine: CudaEngine, kind: str = "cuda-int8") -> None:
        """Hold every answer to the CPU engine's, byte for byte."""
        for given, wanted in zip(self.inputs, self.expected, strict=True):
            answers = engine.infer(given)
            assert engine.kind == kind, (engine.kind, engine.fault)
            assert answers.keys() == wanted.keys()
            for name, values in wanted.items():
                assert answers[name].dtype == values.dtype
                assert answers[name].tobytes() == values.tobytes(), name

    @property
    def gpu_sections(self) -> list[GpuSection]:
        """What of the model runs on the GPU."""
        return [section for section in self.model.sections if isinstance(section, GpuSection)]


def same(answers: Arrays, expected: Arrays) -> bool:
    return answers.keys() == expected.keys() and all(
        answers[name].tobytes() == expected[name].tobytes() for name in expected
    )


def settle() -> None:
    """Wait until the GPU's thread has done all it was given."""
    shared_gpu().call(lambda _: None)


def run_together(works: list[Callable[[], None]]) -> None:
    """Run each on a thread of its own, until all have ended."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def hold(
    fake_gpu: FakeGpu, folder: Path, check: str, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run "module.check" in a child that holds to it, and leaves nothing; by default on an Orin."""
    code = f"from tests.engines.cuda.gpu_kit import run; run({check!r}, {str(folder)!r})"
    done = fake_gpu.run(code, **{"sm": 87, "integrated": 1, **settings})
    assert (done.returncode, done.stdout[-len(HELD) :]) == (0, HELD), done.stderr
    left = fake_gpu.control.alive()
    assert left == {}, left
    return done


def run(check: str, folder: str) -> None:
    """Carry out one check, in the child."""
    warnings.simplefilter("error")
    os.environ["XDG_CACHE_HOME"] = folder  # for cubins
    module, _, name = check.partition(".")
    checks = importlib.import_module(f"tests.engines.cuda.{module}")
    getattr(checks, name)(Kit(Path(folder)), OwnControl())
    sys.stdout.write(HELD)
