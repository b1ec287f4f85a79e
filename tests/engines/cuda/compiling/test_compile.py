from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from edgeq.engines.cuda.compiling import compile as compiling
from edgeq.engines.cuda.compiling.cache import CubinCache
from edgeq.engines.cuda.compiling.compile import compile_all
from edgeq.engines.cuda.compiling.cubin import read_resources
from edgeq.engines.cuda.compiling.nvrtc import Compiled, Compiler
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.compilers import give_templates, real_compiler, small_kernel

ORIN = Target(87)


@dataclass
class CountingCompiler:
    """The real one, and how often it was asked."""

    real: Compiler
    names: list[str] = field(default_factory=list)

    @property
    def version(self) -> tuple[int, int]:
        return self.real.version

    def compile(self, source: str, target: Target, kind: Any, options: Any, name: str) -> Compiled:
        self.names.append(name)
        return self.real.compile(source, target, kind, options, name)


@pytest.fixture
def compiler(monkeypatch):
    give_templates(
        monkeypatch,
        refused='extern "C" __global__ void refused() { nothing(); }',
        misnamed='extern "C" __global__ void other() {}',
    )
    return CountingCompiler(real_compiler(ORIN))


def run(kernels, compiler, **options):
    return compile_all(kernels, ORIN, compiler=compiler, **options)


def test_each_different_kernel_is_compiled_once_and_in_order(compiler):
    kernels = [small_kernel(n) for n in (3, 1, 3, 2, 1)]
    seen: list[tuple[int, int]] = []
    compilation = run(kernels, compiler, progress=lambda *step: seen.append(step))
    assert list(compilation.kernels) == [small_kernel(n) for n in (3, 1, 2)]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert compiler.names == ["small.cu"] * 3
    assert (compilation.target, compilation.cache_problem) == (ORIN, "")
    assert compilation.compiler == "NVRTC {}.{}".format(*compiler.version)


def test_a_kernel_s_image_is_its_own_and_its_resources_are_read(compiler):
    compilation = run([small_kernel(1), small_kernel(2)], compiler)
    first, second = compilation.kernels.values()
    assert first.image != second.image
    assert read_resources(first.image) == {"small": first.resources}
    assert first.seconds > 0
    assert "error" not in first.log
    assert compilation.spilling() == ()


def test_what_was_compiled_before_comes_from_the_cache(compiler, tmp_path):
    cache = CubinCache(tmp_path)
    before = run([small_kernel(1), small_kernel(2)], compiler, cache=cache)
    after = run([small_kernel(2), small_kernel(1), small_kernel(3)], compiler, cache=cache)
    assert len(compiler.names) == 3
    for n in (1, 2):
        kernel = small_kernel(n)
        assert after.kernels[kernel].image == before.kernels[kernel].image
        assert (after.kernels[kernel].seconds, after.kernels[kernel].log) == (0.0, "")


def test_a_damaged_entry_is_compiled_anew_and_replaced(compiler, tmp_path):
    cache, kernel = CubinCache(tmp_path), small_kernel(1)
    before = run([kernel], compiler, cache=cache)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + b"wrong")
    after = run([kernel], compiler, cache=cache)
    assert after.kernels[kernel].image == before.kernels[kernel].image
    assert path.read_bytes() == whole
    assert len(compiler.names) == 2


def test_where_cubins_cannot_be_kept_they_are_compiled_and_the_reason_is_told(compiler, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = CubinCache(tmp_path / "file")
    compilation = run([small_kernel(1)], compiler, cache=cache)
    assert compilation.kernels[small_kernel(1)].image
    assert "Not a directory" in compilation.cache_problem


def test_a_full_cache_loses_its_oldest_but_the_caller_nothing(compiler, tmp_path):
    compilation = run(
        [small_kernel(n) for n in range(4)], compiler, cache=CubinCache(tmp_path, max_bytes=1)
    )
    assert len(compilation.kernels) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_that_does_not_compile_ends_all(compiler):
    kernels = [Kernel("refused", (), 32), *[small_kernel(n) for n in range(50)]]
    with pytest.raises(EngineError, match=r"cannot compile refused\.cu for sm_87: .*nothing"):
        run(kernels, compiler, threads=1)
    assert len(compiler.names) < 10


def test_a_cubin_without_its_entry_point_is_an_error(compiler):
    with pytest.raises(EngineError, match=r"misnamed\.cu has the kernels \['other'\], not mis"):
        run([Kernel("misnamed", (), 32)], compiler)


def test_the_compiler_is_found_where_none_is_given(compiler, monkeypatch):
    monkeypatch.setattr(compiling.nvrtc, "find_compiler", lambda target: compiler)
    assert len(compile_all([small_kernel(1)], ORIN).kernels) == 1
    assert compile_all([], ORIN).kernels == {}


def test_kernels_that_keep_registers_in_memory_are_told(compiler):
    compilation = run([small_kernel(1)], compiler)
    (only,) = compilation.kernels.values()
    resources = dataclasses.replace(only.resources, stack_bytes=8)
    spilled = dataclasses.replace(only, resources=resources)
    changed = dataclasses.replace(compilation, kernels={only.kernel: spilled})
    assert changed.spilling() == (spilled,)
