"""Compile every kernel of every plan of every model at hand, for every board; tell who spills.

    python -m tools.compile_everything --out kernels.tsv
    python -m tools.compile_everything --targets sm_87 --choices 8 --workloads

Models: the repo's own digits; those of ../shared and its INT8 references where that folder is;
with --workloads those of tools/workloads too. A plan has the choices of the cost model; --choices N
compiles the N best of every node, which is what a tuner would time. The table has a row for each
kernel and target: registers, shared memory, spills, how many blocks a multiprocessor holds. Exits 1
if any kernel keeps registers in memory.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.compiling.cache import CubinCache
from edgeq.engines.cuda.compiling.compile import Compilation, CompiledKernel, compile_all
from edgeq.engines.cuda.estimating.occupancy import occupancy
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.lowering.partition import GpuPart, partition
from edgeq.engines.cuda.planning.plan import Candidates, make_plan
from edgeq.engines.cuda.program.nodes import Program
from edgeq.engines.cuda.targets import Target
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from tests.quantize.minmax import minmax_table
from tests.shared_models import calibration_samples, shared_tasks
from tools.workloads.nets import WORKLOADS
from tools.workloads.quantized import int8_form

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
TARGETS = ("sm_53", "sm_62", "sm_72", "sm_75", "sm_87", "sm_90", "sm_101")
SAMPLES = 2  # of each model: its ranges need not be good, only there
FEW_VALUES = 2  # a constant with more is an extent or a zero point: it does not shape the code
HEADER = (
    "target", "kernel", "constants", "threads", "registers", "shared", "dynamic", "stack", "code",
    "blocks", "occupancy", "seconds", "model", "op", "choice",
)  # fmt: skip


@dataclass(frozen=True)
class Use:
    """Where a kernel was met first."""

    model: str
    op: str
    choice: str


def int8_models(shared: Path = SHARED, *, workloads: bool = False) -> Iterator[tuple[str, Model]]:
    """Yield each model at hand in INT8, by name."""
    data = ROOT / "tests/data"
    with np.load(data / "digits_samples.npz") as samples:
        inputs = samples["x"][:SAMPLES].astype(np.float32)
    digits = Model.from_bytes((data / "digits.tflite").read_bytes())
    name = digits.names()[digits.inputs[0]]
    table = minmax_table(digits, [{name: x[np.newaxis]} for x in inputs])
    yield "digits", quantize(digits, table).model
    if shared.is_dir():
        yield from _shared_models(shared)
    if workloads:
        for workload in WORKLOADS:
            yield workload.name, int8_form(workload.make(workload.side, 1.0))


def _shared_models(shared: Path) -> Iterator[tuple[str, Model]]:
    for name, task in shared_tasks(shared).items():
        model = Model.from_bytes((shared / "data" / task["model"]).read_bytes())
        samples = [sample.inputs for sample in calibration_samples(shared, task, SAMPLES)]
        yield name, quantize(model, minmax_table(model, samples)).model
    for path in sorted((shared / "data/reference").glob("*.tflite")):
        yield path.stem, Model.from_bytes(path.read_bytes())


def gpu_programs(model: Model) -> list[Program]:
    """Return the programs of a model's parts that run on the GPU."""
    return [part.program for part in partition(model).parts if isinstance(part, GpuPart)]


def planned_kernels(
    programs: Mapping[str, Sequence[Program]], target: Target, most_choices: int = 1
) -> dict[Kernel, Use]:
    """Return the kernels of all plans, and of so many choices for each node of them."""
    found: dict[Kernel, Use] = {}
    for model, own in programs.items():

        def pick(candidates: Candidates, model: str = model) -> Choice:
            for choice in candidates.choices[:most_choices]:
                for launch in candidates.trial(choice.name).launches:
                    found.setdefault(launch.kernel, Use(model, candidates.label, choice.name))
            return candidates.choices[0]

        for program in own:
            make_plan(program, target, pick)
    return found


def one_of_each_shape(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the first of all kernels whose code has the same shape.

    That is what constants with few values in all decide: tiles, strides, what is fused, and not how
    large a layer is or where its zeros lie.
    """
    values = collections.defaultdict(set)
    for kernel in kernels:
        for name, value in kernel.constants:
            values[kernel.template, name].add(value)
    first: dict[object, Kernel] = {}
    for kernel in kernels:
        shape = tuple(
            (name, value)
            for name, value in kernel.constants
            if len(values[kernel.template, name]) <= FEW_VALUES
        )
        first.setdefault((kernel.template, kernel.threads, shape), kernel)
    return list(first.values())


def rows(compilation: Compilation, uses: Mapping[Kernel, Use]) -> Iterator[tuple[object, ...]]:
    """Yield the table's rows, the kernels with most registers first."""
    compiled = sorted(compilation.kernels.values(), key=lambda k: -k.resources.registers)
    for own in compiled:
        yield _row(own, uses[own.kernel], compilation.target)


def _row(compiled: CompiledKernel, use: Use, target: Target) -> tuple[object, ...]:
    kernel, taken = compiled.kernel, compiled.resources
    shared_bytes = taken.shared_bytes + kernel.dynamic_shared_bytes
    held = occupancy(target, kernel.threads, taken.registers, shared_bytes)
    constants = " ".join(f"{name}={value}" for name, value in kernel.constants)
    return (
        target.name, kernel.template, constants, kernel.threads, taken.registers,
        taken.shared_bytes, kernel.dynamic_shared_bytes, taken.stack_bytes, taken.code_bytes,
        held.blocks, f"{held.ratio:.2f}", f"{compiled.seconds:.3f}", use.model, use.op, use.choice,
    )  # fmt: skip


def summary(compilation: Compilation) -> str:
    """Return what a person wants to know of one target."""
    kernels = list(compilation.kernels.values())
    seconds = sum(kernel.seconds for kernel in kernels)
    most = max(kernel.resources.registers for kernel in kernels)
    told = (
        f"{compilation.target.name}: {len(kernels)} kernels by {compilation.compiler}, "
        f"{seconds:.1f} s in the compiler, at most {most} registers, "
        f"{len(compilation.spilling())} spill"
    )
    lines = [told]
    for own in compilation.spilling():
        constants = " ".join(f"{name}={value}" for name, value in own.kernel.constants)
        lines.append(f"  {own.resources.stack_bytes} bytes: {own.kernel.template} {constants}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print, write."""
    options = _parser().parse_args(arguments)
    models = int8_models(options.shared, workloads=options.workloads)
    programs = {name: gpu_programs(model) for name, model in models}
    cache = CubinCache(options.cache, max_bytes=1 << 30) if options.cache else None
    spilling, table = 0, ["\t".join(HEADER)]
    for name in options.targets.split(","):
        target = Target.parse(name)
        uses = planned_kernels(programs, target, options.choices)
        compilation = compile_all(uses, target, cache=cache)
        print(summary(compilation), flush=True)
        spilling += len(compilation.spilling())
        table += ["\t".join(map(str, row)) for row in rows(compilation, uses)]
    if options.out:
        options.out.write_text("\n".join(table) + "\n")
    return 1 if spilling else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=",".join(TARGETS), help="with commas between")
    parser.add_argument("--choices", type=int, default=1, help="of each node (default: 1)")
    parser.add_argument("--workloads", action="store_true", help="tools/workloads' nets too")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of further models")
    parser.add_argument("--cache", type=Path, help="folder of cubins to take and leave")
    parser.add_argument("--out", type=Path, help="the table, tab-separated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
