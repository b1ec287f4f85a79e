"""The disk is full, read-only or out of inodes: the daemon serves, starts, and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.disk_conditions import CONDITIONS

ROOT = Path(__file__).resolve().parents[2]
UNSHARE = ["unshare", "--map-root-user", "--mount"]


@pytest.fixture(scope="session")
def _can_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mounted")
    command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if done.returncode:
        pytest.skip("no filesystem may be mounted here, not in a namespace either")


@pytest.mark.slow
@pytest.mark.usefixtures("_can_mount")
@pytest.mark.parametrize("condition", CONDITIONS)
def test_it_serves_starts_and_goes_on_by_itself_when_the_disk_is(condition, tmp_path):
    command = [*UNSHARE, sys.executable, "-m", "tests.faults.disk_conditions", condition]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout)
    assert seen["counted"] >= 1
    assert seen["serves"]
    assert seen["is_not_served"]
    assert seen["quarantined"] == 0
    assert seen["serves_after_start"]
