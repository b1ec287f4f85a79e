from __future__ import annotations

import time

from edgeq.observe.stages import Stages


def test_every_stage_is_reported_from_nothing_on_and_timed():
    seen: list[tuple[str, int, int]] = []
    stages = Stages(lambda *step: seen.append(step))
    stages.begin("read")
    stages.begin("verify", 2)
    stages.tick(1)
    stages.tick(2)
    stages.end()
    assert seen == [("read", 0, 0), ("verify", 0, 2), ("verify", 1, 2), ("verify", 2, 2)]
    assert list(stages.seconds) == ["read", "verify"]
    assert all(seconds >= 0 for seconds in stages.seconds.values())


def test_nobody_has_to_listen():
    stages = Stages(None)
    stages.begin("read")
    stages.tick(1)
    stages.end()
    stages.end()
    assert list(stages.seconds) == ["read"]


def test_a_stage_that_runs_twice_adds_up():
    stages = Stages(None)
    for _ in range(2):
        stages.begin("verify")
        time.sleep(0.01)
    stages.end()
    assert stages.seconds["verify"] >= 0.02
    assert list(stages.seconds) == ["verify"]
