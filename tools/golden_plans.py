"""Write the plans of every model at hand to tests/golden/plans, for a person to read the change.

    python -m tools.golden_plans

Models: the repo's own digits, and those of ../shared where that folder is. For each a plan for the
Nano, which has no INT8 arithmetic, and for Orin; for digits the constants of every kernel too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeq.engines.cuda.planning.plan import Plan, make_plan
from edgeq.engines.cuda.planning.plan_text import plan_text
from edgeq.engines.cuda.program.nodes import Program
from edgeq.engines.cuda.targets import Target
from tools.compile_everything import gpu_programs, int8_models

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/golden/plans"
TARGETS = (Target(53), Target(87))
OWN = "digits"


def golden_texts(name: str, programs: list[Program]) -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of each golden plan of a model."""
    for target in TARGETS:
        plans = [make_plan(program, target) for program in programs]
        yield f"{name}.{target.name}.txt", "\n".join(plan_text(plan) for plan in plans)
        if name == OWN:
            yield f"{name}.{target.name}.kernels.txt", "".join(map(_constants, plans))


def _constants(plan: Plan) -> str:
    """Return what every kernel is rendered with, one a line."""
    lines = [
        f"{kernel.template}: " + " ".join(f"{name}={value}" for name, value in kernel.constants)
        for kernel in plan.kernels
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, model in int8_models():
        for file, text in golden_texts(name, gpu_programs(model)):
            (GOLDEN / file).write_text(text, encoding="utf-8")
            print(GOLDEN / file)


if __name__ == "__main__":
    main()
