"""The shipped units start, reload and stop edgeq under a systemd that booted for that."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.systemd_boot import program
from tools.systemd_boot.attempts import ATTEMPTS, outcome
from tools.systemd_boot.inside import NEED_A_MODEL, PARTS

TOOL = Path(program.__file__).parents[1] / "boot_systemd.py"


@pytest.mark.e2e
def test_a_real_systemd_starts_reloads_and_stops_the_shipped_unit():
    if reason := program.why_not():
        pytest.skip(reason)
    results = program.boot(["reload", "stop"], is_cpu_only=False)
    assert [(each["part"], each["held"]) for each in results] == [
        ("start", True),
        ("reload", True),
        ("stop", True),
    ], results


def test_what_is_forbidden_is_told_apart_from_what_is_allowed():
    def refuse() -> None:
        raise PermissionError(1, "no")

    assert outcome(lambda: None) == "allowed"
    assert outcome(refuse) == "EPERM"
    assert any(name.startswith("may ") for name in ATTEMPTS)


def test_without_root_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["boot_systemd"])
    assert program.main("what it is") == 2
    assert "needs root" in capsys.readouterr().err


def test_a_hierarchy_that_cannot_be_written_is_none(monkeypatch, tmp_path):
    for name in ("cgroup.procs", "cgroup.controllers"):
        (tmp_path / name).touch()
    monkeypatch.setattr(program, "CGROUPS", (tmp_path / "none", tmp_path))
    assert program._cgroup2() == tmp_path
    monkeypatch.setattr("os.access", lambda *_: False)
    assert program._cgroup2() is None


def test_the_parts_that_the_help_names_are_those_there_are():
    text = TOOL.read_text()
    listed = text.split("Parts: ")[1].split(".")[0].replace("\n", " ").split(", ")
    assert [name.strip() for name in listed] == list(PARTS)
    assert set(PARTS) >= NEED_A_MODEL


def test_the_boot_script_is_whole():
    script = Path(program.__file__).parent / "boot.sh"
    checked = subprocess.run(["bash", "-n", script], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
