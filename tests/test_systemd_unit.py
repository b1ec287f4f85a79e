"""The unit files, as systemd itself judges them and as the configuration's defaults need them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeq.config import Config
from edgeq.daemon.loop import SHUTDOWN_GRACE_S
from edgeq.serve.listening import BACKLOG, SOCKET_MODE
from edgeq.systemd import STORE_MAXIMUM

SYSTEMD = Path(__file__).resolve().parents[1] / "systemd"
UNIT = SYSTEMD / "edgeq.service"
SOCKET = SYSTEMD / "edgeq.socket"
CPU_ONLY = SYSTEMD / "edgeq-cpu.conf"
MAX_EXPOSURE = 1.3
MAX_EXPOSURE_CPU_ONLY = 1.0

# What systemd learned after 249, the oldest that edgeq runs under, and 252 takes without a word.
NEWER_THAN_249 = {
    "ExecSearchPath",
    "ImportCredential",
    "LoadCredentialEncrypted",
    "LogFilterPatterns",
    "MemoryZSwapMax",
    "OpenFile",
    "ReloadSignal",
    "RestartMode",
    "RestartSteps",
    "RestrictFileSystems",
    "RestrictNetworkInterfaces",
    "SetCredentialEncrypted",
}


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)


def settings(path: Path = UNIT) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("units", [[UNIT], [SOCKET, UNIT]], ids=["alone", "with its socket"])
def test_systemd_has_nothing_to_say_about_the_units(units):
    verified = tool("systemd-analyze", "verify", *units)
    assert (verified.stdout, verified.stderr, verified.returncode) == ("", "", 0)


def test_verify_would_have_said_something(tmp_path):
    broken = tmp_path / "edgeq.service"
    broken.write_text(UNIT.read_text().replace("WatchdogSec", "WatchdogSecs"))
    assert "WatchdogSecs" in tool("systemd-analyze", "verify", broken).stderr


def exposure(unit: Path) -> float:
    judged = tool("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"exposure level for edgeq\.service: ([\d.]+)", judged.stdout)
    assert found, judged.stderr
    return float(found[1])


def with_drop_in(folder: Path) -> Path:
    """Return the unit as the drop-in leaves it: offline, systemd-analyze reads no drop-ins."""
    unit = folder / "edgeq.service"
    section, _, rest = UNIT.read_text().partition("[Install]")
    own = [line for line in CPU_ONLY.read_text().splitlines() if line and line[0] not in "#["]
    unit.write_text("\n".join([section, *own, f"[Install]{rest}"]))
    return unit


def test_the_unit_is_hardly_exposed():
    assert exposure(UNIT) <= MAX_EXPOSURE


def test_without_a_gpu_it_is_exposed_even_less(tmp_path):
    unit = with_drop_in(tmp_path)
    assert exposure(unit) <= MAX_EXPOSURE_CPU_ONLY
    verified = tool("systemd-analyze", "verify", unit)
    assert (verified.stdout, verified.stderr, verified.returncode) == ("", "", 0)
    assert not NEWER_THAN_249 & set(settings(unit))


def test_the_unit_needs_no_newer_systemd_than_249():
    unit = settings()
    assert not NEWER_THAN_249 & set(unit)
    assert unit["Type"] == ["notify"]


def test_start_and_reload_read_the_same_file():
    unit = settings()
    (start,), (reload,) = unit["ExecStart"], unit["ExecReload"]
    config = "--config /etc/edgeq/edgeq.yaml"
    assert start == f"/usr/bin/env /opt/edgeq/bin/edgeq run {config}"
    assert reload == f"/usr/bin/env /opt/edgeq/bin/edgeq reload --wait {config}"
    assert unit["ConfigurationDirectory"] == ["edgeq"]


def test_the_folders_are_those_of_the_configuration():
    unit, config = settings(), Config()
    assert config.state_dir == Path("/var/lib") / unit["StateDirectory"][0]
    made = (SYSTEMD / "edgeq.tmpfiles.conf").read_text().splitlines()
    created = [line.split()[1] for line in made if line.startswith("d ")]
    parent = str(config.models_dir.parent)
    assert created == [parent, str(config.models_dir), str(config.state_dir)]
    assert unit["ReadWritePaths"] == [f"-{parent}"]
    assert config.socket_path == Path("/run") / unit["RuntimeDirectory"][0] / "edgeq.sock"


def test_what_the_daemon_keeps_is_its_own_and_its_socket_the_group_s():
    unit = settings()
    assert unit["UMask"] == ["0077"]
    assert unit["StateDirectoryMode"] == unit["CacheDirectoryMode"] == ["0700"]
    assert unit["RuntimeDirectoryMode"] == ["0750"]
    assert not Config().models_dir.is_relative_to(Config().state_dir)


def test_stopping_waits_longer_than_the_drain():
    drain_s = Config().swap.drain_timeout_s + SHUTDOWN_GRACE_S
    assert float(settings()["TimeoutStopSec"][0]) > drain_s


def test_the_store_is_as_large_as_the_daemon_takes_it_to_be():
    assert settings()["FileDescriptorStoreMax"] == [str(STORE_MAXIMUM)]
    assert settings()["NotifyAccess"] == ["main"]


def test_the_socket_unit_listens_where_the_configuration_does_by_default():
    unit, config = settings(SOCKET), Config()
    tcp, unix = unit["ListenStream"]
    assert tcp == f"{config.server.host}:{config.server.http_port}"
    assert unix == str(config.socket_path)
    assert int(unit["Backlog"][0]) == BACKLOG
    assert int(unit["SocketMode"][0], 8) == SOCKET_MODE
    assert unit["SocketUser"] + unit["SocketGroup"] == settings()["User"] + settings()["Group"]
    assert not NEWER_THAN_249 & set(unit)


def test_a_configuration_error_is_not_restarted():
    unit = settings()
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_every_variable_of_the_unit_is_one_that_the_configuration_takes():
    from edgeq.config import load

    pairs = dict(pair.split("=") for pair in settings()["Environment"][0].split())
    own = {name: value for name, value in pairs.items() if name.startswith("EDGEQ_")}
    assert load(None, own).log.format == "journal"


def test_what_a_confined_probe_and_a_niced_build_call_is_given_back():
    *_, returned, probe = settings()["SystemCallFilter"]
    assert {"setpriority", "setrlimit", "prlimit64"} <= set(returned.split())
    assert {"seccomp", "landlock_restrict_self"} <= set(probe.split())


@pytest.mark.skipif(os.geteuid() != 0, reason="making users in another root needs root")
def test_user_groups_and_folders_are_made_and_making_them_again_changes_nothing(tmp_path):
    for folder in ("etc", "var/lib", "srv"):
        (tmp_path / folder).mkdir(parents=True)
    for _ in range(2):
        for name, kind in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
            arguments = [] if kind == "sysusers" else ["--create"]
            made = tool(name, *arguments, f"--root={tmp_path}", SYSTEMD / f"edgeq.{kind}.conf")
            assert made.returncode == 0, made.stderr
    groups = (tmp_path / "etc" / "group").read_text()
    for group in ("video", "render"):
        assert re.search(rf"^{group}:.*\bedgeq$", groups, re.M), groups
    modes = {"srv/edgeq": 0o750, "srv/edgeq/models": 0o2770, "var/lib/edgeq": 0o700}
    found = {name: (tmp_path / name).stat().st_mode & 0o7777 for name in modes}
    assert found == modes
