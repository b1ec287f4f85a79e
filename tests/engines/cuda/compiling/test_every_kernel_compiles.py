"""Every kernel of every plan of every model at hand compiles for every board, and none spills.

Here one kernel of each shape of code; EDGEQ_COMPILE_EVERYTHING=1 takes all of them, as
tools/compile_everything.py does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import pytest

from edgeq.engines.cuda.compiling.compile import compile_all
from edgeq.engines.cuda.estimating.occupancy import occupancy
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.program.nodes import Program
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.compilers import real_compiler
from tools.compile_everything import (
    TARGETS,
    gpu_programs,
    int8_models,
    main,
    one_of_each_shape,
    planned_kernels,
)

Programs = Mapping[str, Sequence[Program]]
UNUSED = {"177"}  # variables that only some constants need


def warnings(log: str) -> set[str]:
    return set(re.findall(r"warning #(\d+)", log))


@pytest.fixture(scope="module")
def programs() -> Programs:
    return {name: gpu_programs(model) for name, model in int8_models()}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_no_kernel_spills_and_every_block_can_be_launched(name, programs):
    target = Target.parse(name)
    compiler = real_compiler(target)
    uses = planned_kernels(programs, target)
    everything = os.environ.get("EDGEQ_COMPILE_EVERYTHING") == "1"
    kernels = list(uses) if everything else one_of_each_shape(list(uses))
    compilation = compile_all(kernels, target, compiler=compiler)
    assert len(compilation.kernels) == len(kernels) > 10
    assert [(uses[k.kernel], k.resources) for k in compilation.spilling()] == []
    assert [k.log for k in compilation.kernels.values() if warnings(k.log) - UNUSED] == []
    for compiled in compilation.kernels.values():
        kernel, taken = compiled.kernel, compiled.resources
        shared_bytes = taken.shared_bytes + kernel.dynamic_shared_bytes
        held = occupancy(target, kernel.threads, taken.registers, shared_bytes)
        assert held.blocks > 0, (uses[kernel], taken, held.limit)


def test_shapes_of_code_are_told_apart_by_constants_with_few_values():
    def kernel(tile: int, extent: int, threads: int = 128) -> Kernel:
        return Kernel("conv", (("EXTENT", extent), ("TILE", tile)), threads)

    kernels = [kernel(32, 1), kernel(32, 2), kernel(64, 3), kernel(64, 4), kernel(64, 5, 256)]
    assert one_of_each_shape(kernels) == [kernels[0], kernels[2], kernels[4]]


def test_the_table_has_a_row_for_each_kernel(tmp_path, capsys):
    real_compiler(Target(87))
    out = tmp_path / "kernels.tsv"
    options = ["--targets", "sm_87", "--shared", str(tmp_path / "none"), "--out", str(out)]
    assert main([*options, "--cache", str(tmp_path / "cubins")]) == 0
    assert "sm_87: " in capsys.readouterr().out
    header, *lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert len(lines) == len(list((tmp_path / "cubins").iterdir()))
    for line in lines:
        row = dict(zip(header, line, strict=True))
        assert (row["target"], row["model"], row["stack"]) == ("sm_87", "digits", "0")
        assert int(row["registers"]) > 0
        assert 0 < float(row["occupancy"]) <= 1
