"""A short form of `python -m tests.faults.drop_flood`: a few of each kind at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.drop_flood import makers, run

pytestmark = pytest.mark.e2e

GROWN_BYTES = 100 << 20
GROWN = 20  # threads and descriptors: those of one more version and of a probe's child
SLOW_MS = 500.0  # for a model of 0.1 ms, on a box that is busy with other tests


def test_a_flood_of_drops_holds_up_neither_requests_nor_an_update(tmp_path: Path):
    findings = run(tmp_path, drops=4 * len(makers()), requests=50)
    assert findings.failed == []
    assert findings.update_s < 30.0
    assert findings.decided < findings.drops, "the update waited for the whole flood"
    assert findings.flood_p99_ms < SLOW_MS
    assert findings.after.rss_bytes - findings.before.rss_bytes < GROWN_BYTES
    assert findings.after.descriptors - findings.before.descriptors < GROWN
    assert findings.after.threads - findings.before.threads < GROWN
    assert findings.quarantined <= 50
