from __future__ import annotations

import pytest

from edgeq.engines.cuda.targets import KNOWN, Target
from edgeq.errors import EngineError


@pytest.mark.parametrize("sm", KNOWN)
def test_every_known_target_reads_back_from_its_name(sm):
    assert Target.parse(Target(sm).name) == Target(sm)


@pytest.mark.parametrize("name", ["sm_99", "87x", "sm_", "", "compute_87", "sm_8.7"])
def test_another_name_is_an_error_that_lists_the_boards(name):
    with pytest.raises(EngineError, match=f"target '{name}' is unknown; there are sm_53") as caught:
        Target.parse(name)
    assert "Orin sm_87" in caught.value.hint


def test_int8_instructions_came_one_after_the_other():
    def those_with(what: str) -> set[int]:
        return {sm for sm in (53, 61, 62, 72, 75, 80, 87, 90, 110) if getattr(Target(sm), what)}

    assert those_with("has_dp4a") == {61, 72, 75, 80, 87, 90, 110}
    assert those_with("has_wmma") == {72, 75, 80, 87, 90, 110}
    assert those_with("has_mma") == {75, 80, 87, 90, 110}
    assert those_with("has_wide_mma") == {80, 87, 90, 110}


def test_a_gpu_s_size_makes_no_other_target_of_it():
    assert Target(87, multiprocessors=16) == Target(87)
    assert {Target(87, multiprocessors=16), Target(87)} == {Target(87)}
