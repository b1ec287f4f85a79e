"""Tenants that live at once never overlap, and the arena is no larger than it must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeq.engines.cuda.planning.arena import ALIGNMENT, Tenant, aligned, pack

TENANTS = st.lists(
    st.builds(
        lambda size, first, length: Tenant(size, first, first + length),
        st.integers(0, 5000),
        st.integers(0, 20),
        st.integers(0, 8),
    ),
    max_size=30,
)


@given(TENANTS)
def test_what_lives_at_once_never_overlaps(tenants: list[Tenant]) -> None:
    offsets, size = pack(tenants)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    for i, one in enumerate(tenants):
        assert offsets[i] + one.size <= size
        for j, other in enumerate(tenants[:i]):
            if one.first <= other.last and other.first <= one.last:
                apart = offsets[i] + one.size <= offsets[j] or offsets[j] + other.size <= offsets[i]
                assert apart


@given(TENANTS)
def test_the_arena_is_at_least_its_busiest_step_and_at_most_all_of_them(
    tenants: list[Tenant],
) -> None:
    _, size = pack(tenants)
    busiest = max(
        (sum(aligned(t.size) for t in tenants if t.first <= step <= t.last) for step in range(30)),
        default=0,
    )
    assert busiest <= size <= sum(aligned(t.size) for t in tenants)


def test_a_chain_needs_two_buffers() -> None:
    chain = [Tenant(1000, step, step + 1) for step in range(10)]
    assert pack(chain)[1] == 2 * aligned(1000)
