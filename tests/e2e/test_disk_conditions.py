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
ROOT_ONLY = ["unshare", "--mount"]  # a loop device is not given to a namespace's root


def why_not(*command: str) -> str:
    """Return why a mount cannot be made here, "" where it can."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_it_serves_starts_and_goes_on_by_itself_when_the_disk_is(condition, tmp_path):
    unshare = ROOT_ONLY if condition == "ext4_error" else UNSHARE
    (tmp_path / "box").mkdir()
    if condition == "ext4_error":
        image = tmp_path / "try.img"
        image.write_bytes(bytes(4 << 20))
        reason = why_not("mkfs.ext4", "-q", "-F", str(image)) or why_not(
            *unshare, "mount", "-o", "loop", str(image), str(tmp_path / "box")
        )
    else:
        reason = why_not(*unshare, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "box"))
    if reason:
        pytest.skip(f"no filesystem can be mounted here: {reason}")
    command = [*unshare, sys.executable, "-m", "tests.faults.disk_conditions", condition]
    done = subprocess.run(
        [*command, str(tmp_path / "box")],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout)
    assert seen["counted"] >= 1
    assert seen["serves"]
    assert seen["is_not_served"]
    assert seen["quarantined"] == 0
    assert seen["serves_after_start"]
