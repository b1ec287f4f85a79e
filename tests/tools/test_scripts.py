from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    "tools/check",
    "tools/test",
    "tools/fetch_debian",
    "tools/fetch_prometheus",
    "tools/gpu_check",
    ".ci/run",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_executable_and_parses(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_check_runs_its_steps_in_order_and_stops_at_the_first_failure(tmp_path):
    """The steps' programs are replaced by ones that only tell that they were called."""
    log = tmp_path / "log"
    for name in ("ruff", "lint-imports", "mypy", "python"):
        tool = tmp_path / name
        tool.write_text(
            f'#!/bin/sh\necho "{name} $1 $2" >> {log}\n[ "{name}" != "$BROKEN" ] || exit 3\n'
        )
        tool.chmod(0o755)

    def run(**environ: str) -> int:
        log.write_text("")
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environ}
        command = [ROOT / "tools" / "check"]
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode

    def called() -> list[str]:
        return [line for line in log.read_text().splitlines() if line != "python --version "]

    assert run() == 0
    steps = called()
    assert steps[:3] == ["ruff format --check", "ruff check .", "lint-imports  "]
    assert sorted(steps[3:5]) == ["mypy  ", "python -m pytest"]  # which collects meanwhile
    assert steps[5:] == ["python -m pytest"]
    assert run(BROKEN="lint-imports") == 3
    assert called() == steps[:3]


def test_test_installs_once_and_again_when_the_requirements_change(tmp_path):
    """A copy of the script in a repository whose interpreter only writes down its calls."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "test").write_bytes((ROOT / "tools" / "test").read_bytes())
    (tmp_path / "tools" / "check").write_text("#!/bin/sh\necho check $VIRTUAL_ENV\n")
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/log\n'
        '[ "$2" != venv ] || { mkdir -p .venv/bin; cp "$0" .venv/bin/python; }\n'
    )
    for file in (tmp_path / "tools" / "test", tmp_path / "tools" / "check", python):
        file.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("one")

    def installs() -> int:
        env = {**os.environ, "PYTHON": str(python)}
        done = subprocess.run(
            [tmp_path / "tools" / "test"], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"check {tmp_path}/.venv"
        return (tmp_path / "log").read_text().count("pip install")

    assert (installs(), installs()) == (1, 1)
    (tmp_path / "pyproject.toml").write_text("two")
    assert installs() == 2
