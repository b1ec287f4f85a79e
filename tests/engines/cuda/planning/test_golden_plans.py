"""Every model's plan is as its golden file shows it; tools.golden_plans writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.compile_everything import SHARED, gpu_programs, int8_models
from tools.golden_plans import GOLDEN, OWN, golden_texts


def _check(shared: Path, *, own: bool) -> None:
    changed, seen = [], 0
    for name, model in int8_models(shared):
        if (name == OWN) != own:
            continue
        for file, text in golden_texts(name, gpu_programs(model)):
            seen += 1
            path = GOLDEN / file
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                changed.append(file)
    assert seen >= 4
    assert changed == [], "look at the change of `python -m tools.golden_plans`, then keep it"


def test_the_repo_s_own_net_is_planned_as_its_golden_files_show() -> None:
    _check(Path("/nowhere"), own=True)


@pytest.mark.shared
def test_real_nets_are_planned_as_their_golden_files_show(shared: Path) -> None:
    assert shared == SHARED
    _check(shared, own=False)
