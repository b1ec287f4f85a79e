"""Whatever step on the disk comes last, the box starts, serves what was committed, and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.crash_points import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
LEAST_ENDS = 50  # fewer: the steps are not seen any more


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: it forks, which this one's threads would not survive."""
    command = [sys.executable, "-m", *arguments]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=250, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_after_any_end_the_box_serves_what_was_committed_and_goes_on(scenario, built):
    done = run("tests.faults.crash_points", scenario, str(built))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["failures"] == {}
    assert found["ends"] >= LEAST_ENDS


WRITER = """
import os, sys
from pathlib import Path
from tests.faults.disk import Disk
box, shadow, number, leave_out = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
disk = Disk(box, shadow, number, True)
disk.watch()
with open(box / ".new", "wb") as file:
    file.write(b"new content")
    file.flush()
    if leave_out != "file":
        os.fsync(file.fileno())
os.replace(box / ".new", box / "kept")
if leave_out != "directory":
    fd = os.open(box, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
os.mkdir(box / "after")
"""


@pytest.mark.parametrize(
    ("leave_out", "content"),
    [("nothing", b"new content"), ("file", b"new c"), ("directory", b"old content")],
)
def test_a_power_cut_takes_what_was_not_synced(tmp_path, leave_out, content):
    box, shadow = tmp_path / "box", tmp_path / "shadow"
    box.mkdir()
    shadow.mkdir()
    (box / "kept").write_bytes(b"old content")
    (tmp_path / "writer.py").write_text(WRITER)
    number = {"nothing": 5, "file": 4, "directory": 4}[leave_out]  # before the mkdir
    command = [sys.executable, str(tmp_path / "writer.py"), str(box), str(shadow)]
    done = subprocess.run(
        [*command, str(number), leave_out], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 137
    assert (box / "kept").read_bytes() == content
    assert not (box / "after").exists()
