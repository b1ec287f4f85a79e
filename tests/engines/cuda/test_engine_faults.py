"""What the driver refuses, and what ends the context: no request is lost, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cuda.fake_libcuda.fake import FakeGpu
from tests.engines.cuda.gpu_kit import hold


@pytest.mark.parametrize(
    "check",
    [
        "survives_a_context_that_is_lost",
        "stays_on_the_cpu_after_a_second_loss",
        "recovers_every_engine_of_a_lost_context",
        "answers_while_the_context_is_made_anew",
        "closes_while_it_is_loaded_again",
        "frees_what_a_failed_rebuild_had_loaded",
        "gives_up_where_the_gpu_cannot_be_used_again",
        "loads_again_after_an_error_that_leaves_the_context",
        "loads_again_after_a_load_that_lost_the_context",
        "says_what_memory_lacks_and_leaves_nothing",
        "compiles_again_what_the_driver_refuses",
    ],
)
def test_it(fake_gpu: FakeGpu, gpu_models: Path, check: str):
    hold(fake_gpu, gpu_models, f"fault_checks.{check}")
