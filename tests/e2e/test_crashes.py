"""kill -9 at any moment: the last commit serves again, and what was pending is redone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.bundle import Bundle
from tests.e2e.daemon import Daemon

NO_SAFE_MODE = {"EDGEQ_SAFE_MODE_UNCLEAN_STARTS": "0"}
RESTART_S = 15.0  # a loaded machine; on an idle one it is under a second


def first(text: str) -> Callable[[Daemon], bool]:
    """True once the daemon logged this."""
    return lambda daemon: any(text in line for line in daemon.log)


def stage(name: str) -> Callable[[Daemon], bool]:
    """True once the running build reached this stage, or the build is over."""

    def is_there(daemon: Daemon) -> bool:
        model = daemon.status()["models"]["digits"]
        progress = model["progress"] or {}
        return progress.get("stage") == name or model["live"]["version"] != "1"

    return is_there


MOMENTS: dict[str, Callable[[Daemon], bool]] = {
    "while a drop is admitted": lambda daemon: True,
    "when a drop was accepted": first("drop accepted"),
    "when the float model was published": first("published"),
    "when the build has begun": stage("read"),
    "while it calibrates": stage("calibrate"),
    "while it verifies": stage("verify"),
    "while it writes the bundle": stage("bundle"),
    "when the INT8 engine was published": first("engine=cpu-int8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_after_kill_9_the_last_commit_serves_and_the_rest_is_redone(
    daemon: Daemon, digits: Path, moment: str
):
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    if "drop" not in moment:
        daemon.wait_served("digits")
        daemon.client.add_samples("digits", digits / "digits_samples.npz")
    deadline = time.monotonic() + 30
    while not MOMENTS[moment](daemon) and time.monotonic() < deadline:
        time.sleep(0.002)
    daemon.stop(signal.SIGKILL)

    assert daemon.start() < RESTART_S
    model = daemon.status()["models"].get("digits")
    committed = model["live"] if model else None
    if "published" in moment:
        assert committed is not None
    if committed is not None:
        folder = daemon.root / "state/bundles/digits" / committed["version"]
        assert Bundle.open(folder).manifest.engine == committed["engine"]
    daemon.wait_served("digits")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    daemon.wait_served("digits", "cpu-int8")


@pytest.mark.slow
def test_killed_again_and_again_it_never_loses_its_commit(daemon: Daemon, digits: Path):
    """Kills at 12 moments of a drop's way to INT8, one after the other on the same state."""
    daemon.start(NO_SAFE_MODE)
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    for number in range(12):
        source = digits / ("digits_v2.tflite" if number % 2 == 0 else "digits.tflite")
        daemon.drop(source, "digits")
        time.sleep(0.3 + 0.15 * number)
        before = daemon.status()["models"]["digits"]["live"]["version"]
        daemon.stop(signal.SIGKILL)
        assert daemon.start(NO_SAFE_MODE) < RESTART_S
        live = daemon.status()["models"]["digits"]["live"]
        assert live is not None
        assert int(live["version"]) >= int(before)
    daemon.wait_served("digits", "cpu-int8")
    leftovers = [p for p in (daemon.root / "state").rglob(".tmp-*") if "building" not in p.parts]
    assert leftovers == []


@pytest.mark.slow
def test_a_build_child_does_not_outlive_a_killed_daemon(daemon: Daemon, digits: Path):
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    daemon.wait("building", lambda s: s["models"]["digits"]["progress"] is not None)
    daemon.stop(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while children_over(daemon.root) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_over(daemon.root) == []


def children_over(root: Path) -> list[str]:
    """Command lines of processes that work below `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it ended meanwhile
        if f"{root}/state" in command and "edgeq build" in command:
            found.append(command)
    return found
