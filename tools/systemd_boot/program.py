"""This machine's root, the shipped units and this edgeq -> a booted system -> what held in it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
BOOT_LIMIT_S = 240.0
MACHINE = "edgeq-boot"

# The probe is a service of the booted system, and ends it.
PROBE = """\
[Unit]
Description=what holds under the shipped unit
DefaultDependencies=no
After=systemd-journald.socket
Wants=systemd-journald.socket systemd-journald.service
[Service]
Type=oneshot
TimeoutStartSec=220
ExecStart=/opt/edgeq/bin/python -m tools.systemd_boot.inside {arguments}
ExecStopPost=/usr/bin/systemctl --no-block exit
"""
TARGET = """\
[Unit]
DefaultDependencies=no
Wants=edgeq-probe.service
"""
PYTHON = """\
#!/bin/sh
# The interpreter of the machine that booted this one, where a confined service may read it.
export LD_LIBRARY_PATH=/opt/edgeq/python/lib PYTHONHOME=/opt/edgeq/python
export PYTHONPATH=/opt/edgeq/source:/opt/edgeq/packages PYTHONDONTWRITEBYTECODE=1
exec /opt/edgeq/python/bin/{python} "$@"
"""
EDGEQ = """\
#!/bin/sh
exec /opt/edgeq/bin/python -m edgeq "$@"
"""


def why_not() -> str:
    """Return why a system cannot be booted here, "" where it can."""
    if os.geteuid() != 0:
        return "booting a system needs root"
    if not Path("/lib/systemd/systemd").exists():
        return "there is no /lib/systemd/systemd here"
    missing = [name for name in ("unshare", "pivot_root", "ip") if shutil.which(name) is None]
    if missing:
        return f"there is no {', '.join(missing)} here"
    if _cgroup2() is None:
        return "there is no cgroup v2 hierarchy that can be written"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--net", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


def _cgroup2() -> Path | None:
    """Return the folder of the cgroup v2 hierarchy, None where this process cannot add to it."""
    for folder in CGROUPS:
        if (folder / "cgroup.procs").exists() and (folder / "cgroup.controllers").exists():
            return folder if os.access(folder, os.W_OK) else None
    return None


def boot(parts: Sequence[str], *, is_cpu_only: bool) -> list[dict[str, str]]:
    """Boot, run the named parts (all where there are none), and return what each found.

    Raises:
        RuntimeError: the system did not come up; its log is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-boot-") as name:
        folder = Path(name)
        for each in ("overlay", "out", "files"):
            (folder / each).mkdir()
        _lay_out(folder / "files", [*parts, *(["--cpu-only"] if is_cpu_only else [])])
        _run(folder)
        results = folder / "out" / "results.jsonl"
        if not results.exists():
            log = (folder / "out" / "systemd.log").read_text(errors="replace")
            raise RuntimeError(f"the system did not come up:\n{log[-3000:]}")
        return [json.loads(line) for line in results.read_text().splitlines()]


def _run(folder: Path) -> None:
    """Run the system in a cgroup and namespaces of its own; nothing of it is left afterwards."""
    base = sys.base_prefix
    command = [
        "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--uts", "--ipc",
        "--net", "--cgroup", "--kill-child", "bash", str(HERE / "boot.sh"), str(folder), base,
        sysconfig.get_path("purelib"),
    ]  # fmt: skip
    hierarchy = _cgroup2()
    assert hierarchy is not None
    cgroup = hierarchy / f"{MACHINE}-{os.getpid()}"
    cgroup.mkdir()
    shell = f'echo $$ > {cgroup}/cgroup.procs && exec "$@"'
    process = subprocess.Popen(["bash", "-c", shell, "bash", *command], start_new_session=True)
    try:
        process.wait(BOOT_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    finally:
        _remove_cgroup(cgroup)


def _remove_cgroup(cgroup: Path) -> None:
    for _ in range(50):
        for path in sorted(cgroup.rglob("*"), reverse=True):
            if path.is_dir():
                _try_rmdir(path)
        if _try_rmdir(cgroup):
            return
        time.sleep(0.1)


def _try_rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True


def _lay_out(files: Path, arguments: Sequence[str]) -> None:
    """Install as the README says, but for the interpreter, which is this one."""
    system = files / "etc/systemd/system"
    for folder in (system, files / "etc/edgeq", files / "opt/edgeq/bin"):
        folder.mkdir(parents=True)
    for kind in ("sysusers", "tmpfiles"):
        target = files / f"etc/{kind}.d/edgeq.conf"
        target.parent.mkdir(parents=True)
        shutil.copy(ROOT / "systemd" / f"edgeq.{kind}.conf", target)
    for unit in ("edgeq.service", "edgeq.socket"):
        shutil.copy(ROOT / "systemd" / unit, system)
    if "--cpu-only" in arguments:
        (system / "edgeq.service.d").mkdir()
        shutil.copy(ROOT / "systemd" / "edgeq-cpu.conf", system / "edgeq.service.d")
    shutil.copy(ROOT / "configs" / "edgeq.yaml", files / "etc/edgeq")
    (system / "edgeq-probe.service").write_text(PROBE.format(arguments=" ".join(arguments)))
    (system / "edgeq-boot.target").write_text(TARGET)
    for folder in ("edgeq", "tools/systemd_boot"):
        target = files / "opt/edgeq/source" / folder
        shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests/data", files / "opt/edgeq/data")
    _script(files / "opt/edgeq/bin/python", PYTHON.format(python=_python_name()))
    _script(files / "opt/edgeq/bin/edgeq", EDGEQ)


def _python_name() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def main(description: str) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--cpu-only", action="store_true", help="with systemd/edgeq-cpu.conf")
    options = parser.parse_args()
    if reason := why_not():
        print(f"not here: {reason}", file=sys.stderr)
        return 2
    started = time.monotonic()
    results = boot(options.parts, is_cpu_only=options.cpu_only)
    for result in results:
        print(f"{'ok  ' if result['held'] else 'FAIL'} {result['part']:12s} {result['found']}")
    print(f"{time.monotonic() - started:.1f} s")
    return 0 if results and all(result["held"] for result in results) else 1
