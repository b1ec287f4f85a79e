"""The engine on the real pycuda and a fake libcuda: right, shared, closed, nothing left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cuda.fake_libcuda.fake import FakeGpu
from tests.engines.cuda.gpu_kit import hold

BOARDS = {
    "Orin": {"sm": 87, "integrated": 1},  # kernels work on the host's memory
    "discrete": {"sm": 87, "integrated": 0},
    "Nano": {"sm": 53, "integrated": 1},  # without a cache over pinned memory
}


@pytest.mark.parametrize("board", BOARDS)
def test_it_gives_the_cpu_engine_s_bytes(fake_gpu: FakeGpu, gpu_models: Path, board: str):
    hold(fake_gpu, gpu_models, "engine_checks.gives_the_cpu_engine_s_bytes", **BOARDS[board])


@pytest.mark.parametrize(
    "check",
    [
        "runs_parts_on_the_cpu",
        "refuses_bad_requests_as_the_cpu_engine_does",
        "leaks_nothing_over_fifty_lives",
        "swaps_beside_an_engine_that_serves",
        "serves_many_threads_with_an_engine_each",
        "closes_while_another_thread_infers",
        "launches_one_by_one_what_the_graph_does_at_once",
        "times_launches_by_the_gpu_s_clock",
    ],
)
def test_it(fake_gpu: FakeGpu, gpu_models: Path, check: str):
    hold(fake_gpu, gpu_models, f"engine_checks.{check}")


@pytest.mark.parametrize(
    "check",
    ["ends_with_an_engine_that_nobody_closed", "ends_with_a_lost_context_that_nobody_closed"],
)
def test_the_process_ends_cleanly_and(fake_gpu: FakeGpu, gpu_models: Path, check: str):
    done = hold(fake_gpu, gpu_models, f"engine_checks.{check}")
    assert "PyCUDA" not in done.stderr
    assert "Warning" not in done.stderr
