"""What an engine needs, what the box has left, and which policy follows, on a faked /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.swap.memory import (
    BASE_BYTES,
    Memory,
    arena_bytes,
    available_memory,
    choose_policy,
    engine_bytes,
)
from edgeq.tflite.model import Model

MIB = 1 << 20


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A box of 1000 MiB, of which 400 can be had."""
    put(tmp_path, "proc/meminfo", "MemTotal: 1024000 kB\nMemAvailable: 409600 kB\nHuge:\n")
    return tmp_path


def test_a_reserve_of_all_memory_is_left_to_others(root: Path) -> None:
    assert available_memory(root) == Memory(350 * MIB, "MemAvailable")


def test_a_box_without_figures_has_no_estimate(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    assert choose_policy(1 << 40, None).policy == "load-then-drop"


@pytest.mark.parametrize("limit", ["memory.max", "memory.high"])
def test_the_tightest_control_group_bounds_it(root: Path, limit: str) -> None:
    put(root, "proc/self/cgroup", "0::/system.slice/edgeq.service\n")
    for group, most in (("system.slice", "max"), ("system.slice/edgeq.service", str(100 * MIB))):
        put(root, f"sys/fs/cgroup/{group}/memory.max", "max\n")
        put(root, f"sys/fs/cgroup/{group}/memory.high", "max\n")
        put(root, f"sys/fs/cgroup/{group}/{limit}", f"{most}\n")
        put(root, f"sys/fs/cgroup/{group}/memory.current", f"{60 * MIB}\n")
        put(root, f"sys/fs/cgroup/{group}/memory.stat", f"anon 5\ninactive_file {10 * MIB}\n")
    expected = Memory(45 * MIB, f"{limit} of /system.slice/edgeq.service")
    assert available_memory(root) == expected


def test_a_limit_of_a_group_around_counts_too(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/a/b\n")
    put(root, "sys/fs/cgroup/a/memory.max", str(20 * MIB))
    put(root, "sys/fs/cgroup/a/memory.current", str(30 * MIB))
    assert available_memory(root) == Memory(0, "memory.max of /a")


def test_the_older_control_groups_are_read_where_they_are(root: Path) -> None:
    put(root, "proc/self/cgroup", "9:cpuset:/x\n5:memory:/box\n1:name=systemd:/y\n")
    put(root, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", str(200 * MIB))
    put(root, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", str(100 * MIB))
    put(root, "sys/fs/cgroup/memory/box/memory.stat", f"total_inactive_file {5 * MIB}\n")
    expected = Memory(95 * MIB, "memory.limit_in_bytes of /box")
    assert available_memory(root) == expected


def test_what_does_not_fit_beside_the_old_engine_takes_its_place() -> None:
    memory = Memory(10 * MIB, "MemAvailable")
    assert choose_policy(10 * MIB, memory).policy == "load-then-drop"
    choice = choose_policy(10 * MIB + 1, memory)
    assert choice.policy == "drop-then-load"
    assert choice.reason == "needs about 10.0 MiB, 10.0 MiB are left by MemAvailable"
    assert (choice.needed, choice.available) == (10 * MIB + 1, 10 * MIB)


def test_the_estimate_counts_the_file_twice_and_the_values_alive_at_once(
    digits_model: bytes,
) -> None:
    arena = arena_bytes(Model.from_bytes(digits_model))
    assert 16 * 16 * 4 <= arena <= 1 << 17  # at least the input, at most all activations
    assert engine_bytes(digits_model) == 2 * (2 * len(digits_model) + arena) + BASE_BYTES


def test_a_file_that_cannot_be_read_has_no_estimate() -> None:
    assert engine_bytes(b"not a model") == 0
    assert choose_policy(0, Memory(0, "MemAvailable")).policy == "load-then-drop"
