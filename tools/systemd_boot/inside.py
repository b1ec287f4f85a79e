"""Inside the booted system, as root: each part does something to edgeq and says what it saw."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tools.systemd_boot.clients import (
    CONFIG,
    PORT,
    Load,
    ask,
    call,
    configured,
    edgeq,
    is_ready,
    live,
    set_schema,
    shown,
    wait_for,
)

RESULTS = Path("/out/results.jsonl")
DATA = Path("/opt/edgeq/data")
UNITS = Path("/etc/systemd/system")
IS_CPU_ONLY = "--cpu-only" in sys.argv
CUT = ("RemoteDisconnected", "ConnectionReset", "BrokenPipe")  # inside a daemon that was killed


def start() -> str:
    """Install the user and the folders as the README says, and start."""
    call("systemd-sysusers")
    call("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/edgeq.conf")
    started = time.monotonic()
    call("systemctl", "start", "edgeq")  # Type=notify: returns at READY=1
    seconds = time.monotonic() - started
    status, pid, user = shown("StatusText", "MainPID", "User")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    names = ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    held = {name: found[name].split()[0] for name in names}
    assert held["Uid"] != "0", held
    assert (int(held["CapEff"], 16), int(held["CapBnd"], 16)) == (0, 0), held
    assert (held["NoNewPrivs"], held["Seccomp"]) == ("1", "2"), held
    assert is_ready(), shown("ActiveState", "SubState")
    return f"READY after {seconds:.2f} s as {user}: {held}; status {status!r}"


def deploy() -> str:
    """A drop is probed in its sandbox, served, calibrated and swapped to INT8, all confined."""
    models = configured("models_dir")
    shutil.copy(DATA / "digits.tflite", models / ".digits.part")
    os.rename(models / ".digits.part", models / "digits.tflite")
    to_float = wait_for("float served", lambda: live().get("engine") == "float")
    edgeq("samples", "digits", "add", str(DATA / "digits_samples.npz"))
    to_int8 = wait_for("INT8 served", lambda: live().get("engine") == "cpu-int8")
    damaged = (DATA / "digits.tflite").read_bytes()[:20_000]
    (models / "damaged.tflite").write_bytes(damaged)
    wait_for("quarantined", lambda: "damaged" in edgeq("quarantine", "list"))
    status, engine = ask(http.client.HTTPConnection("127.0.0.1", PORT, timeout=10))
    assert (status, engine) == ("200", "cpu-int8")
    text = shown("StatusText")[0]
    return f"float after {to_float:.1f} s, INT8 {to_int8:.1f} s after its samples; status {text!r}"


def private() -> str:
    """Nobody but the daemon's user may look at what it keeps."""
    state, models = configured("state_dir"), configured("models_dir")
    modes = {
        str(path): path.stat().st_mode & 0o7777
        for path in (state, *sorted(state.rglob("*")))
        if not path.is_relative_to(models)
    }
    open_to_all = {path: oct(mode) for path, mode in modes.items() if mode & 0o007}
    assert not open_to_all, open_to_all
    peeked = call("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                  "ls", str(state), check=False)  # fmt: skip
    assert peeked.returncode != 0, peeked.stdout
    sock = configured("socket_path")
    is_socket = stat.S_ISSOCK(sock.stat().st_mode)
    assert is_socket
    mode = oct(sock.stat().st_mode & 0o777)
    return (
        f"{oct(modes[str(state)])} {state}, {len(modes)} files and folders, none open to others; "
        f"socket {sock} {mode} in a folder {oct(sock.parent.stat().st_mode & 0o777)}"
    )


def hardening() -> str:
    """What the unit forbids fails for a program in edgeq's place."""
    lines = (UNITS / "edgeq.service").read_text().splitlines()
    keep = [line for line in lines if not line.startswith(
        ("Type=", "ExecStart=", "ExecReload=", "WatchdogSec=", "Restart", "NotifyAccess=",
         "FileDescriptorStoreMax=", "RuntimeDirectory", "StartLimit"))]  # fmt: skip
    script = "/opt/edgeq/bin/python -m tools.systemd_boot.attempts"
    place = keep.index("[Service]") + 1
    keep[place:place] = ["Type=oneshot", f"ExecStart={script}", "StandardOutput=journal"]
    (UNITS / "edgeq-attempts.service").write_text("\n".join(keep) + "\n")
    drop_ins = UNITS / "edgeq.service.d"
    if drop_ins.exists():
        shutil.copytree(drop_ins, UNITS / "edgeq-attempts.service.d", dirs_exist_ok=True)
    call("systemctl", "daemon-reload")
    started = call("systemctl", "start", "edgeq-attempts", check=False)
    said = call("journalctl", "-u", "edgeq-attempts", "-o", "cat", "--no-pager").stdout
    assert started.returncode == 0, said
    outcomes = dict(json.loads(line) for line in said.splitlines() if line.startswith("["))
    if not IS_CPU_ONLY:  # LiteRT's kernels need none, but a GPU's driver makes code
        outcomes["may have writable code"] = outcomes.pop("writable code")
    allowed = sorted(name for name, outcome in outcomes.items() if outcome == "allowed")
    wanted = [name for name in outcomes if name.startswith("may ")]
    assert allowed == sorted(wanted), {name: outcomes[name] for name in outcomes}
    refused = ", ".join(f"{k}: {v}" for k, v in outcomes.items() if v != "allowed")
    return f"{refused}; and it {', '.join(wanted)}"


def journal() -> str:
    """Lines carry edgeq's name, and priorities by level."""
    said = call("journalctl", "-u", "edgeq", "-o", "json", "--no-pager").stdout
    entries = [json.loads(line) for line in said.splitlines()]
    own = [each for each in entries if each.get("SYSLOG_IDENTIFIER") == "edgeq"]
    priorities = sorted({each["PRIORITY"] for each in own})
    published = [e for e in own if "published model=digits" in str(e["MESSAGE"])]
    assert published, "no line of the swap"
    assert published[0]["_SYSTEMD_UNIT"] == "edgeq.service"
    fields = [key for key in ("PRIORITY", "SYSLOG_IDENTIFIER", "_UID") if key in published[0]]
    return f"{len(own)} lines, priorities {priorities}, {fields}: {published[0]['MESSAGE']!r}"


def reload() -> str:
    """`systemctl reload` returns when the new configuration is in force."""
    text = CONFIG.read_text()
    CONFIG.write_text(text.replace("\n  level: info", "\n  level: debug"))
    assert CONFIG.read_text() != text, "the configuration has no level: info"
    pid = shown("MainPID")
    started = time.monotonic()
    call("systemctl", "reload", "edgeq")
    seconds = time.monotonic() - started
    said = call("journalctl", "-u", "edgeq", "-o", "cat", "--no-pager").stdout
    assert "configuration reloaded" in said
    assert shown("MainPID") == pid
    CONFIG.write_text(text.replace("\n  level: info", "\n  level: nonsense"))
    refused = call("systemctl", "reload", "edgeq", check=False)
    assert refused.returncode != 0, "a wrong configuration was taken"
    assert is_ready(), "a refused reload ended the service"
    CONFIG.write_text(text)
    call("systemctl", "reload", "edgeq")
    return f"in force after {seconds:.2f} s, same process; a wrong file is refused and it serves on"


def restart() -> str:
    """Nobody is refused over a restart: systemd keeps the sockets."""
    stored = shown("NFileDescriptorStore")[0]
    assert int(stored) >= 1, "nothing is in the descriptor store"
    with Load() as load:
        started = time.monotonic()
        call("systemctl", "restart", "edgeq")
        seconds = time.monotonic() - started
        load.more()
    return f"restarted in {seconds:.2f} s with {stored} sockets in the store: {load.found()}"


def crash() -> str:
    """A killed daemon comes back by itself; the version is the one before."""
    before, pid = live()["version"], int(shown("MainPID")[0])
    with Load() as load:
        os.kill(pid, signal.SIGKILL)
        wait_for("another process", lambda: shown("MainPID")[0] not in ("0", str(pid)))
        seconds = wait_for("READY", is_ready)
        load.more()
    cut = [failure for failure in load.failures if failure.startswith(CUT)]
    load.failures = [failure for failure in load.failures if failure not in cut]
    assert live()["version"] == before
    assert len(cut) <= 2, cut  # what was inside: one request of each client
    return f"SIGKILL: READY {seconds:.2f} s later, version {before}; {len(cut)} cut, {load.found()}"


def watchdog() -> str:
    """A daemon that hangs is ended and started again."""
    drop_in = Path("/run/systemd/system/edgeq.service.d")
    drop_in.mkdir(parents=True)
    (drop_in / "quick.conf").write_text("[Service]\nWatchdogSec=2\n")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", "edgeq")
    (pid, count) = shown("MainPID", "NRestarts")
    os.kill(int(pid), signal.SIGSTOP)
    seconds = wait_for("a restart", lambda: int(shown("NRestarts")[0]) > int(count))
    wait_for("READY", is_ready)
    said = call("journalctl", "-u", "edgeq", "-o", "cat", "--no-pager").stdout
    assert "Watchdog timeout" in said
    assert live()["engine"] == "cpu-int8"
    shutil.rmtree(drop_in)
    call("systemctl", "daemon-reload")
    return f"stopped by SIGSTOP, WatchdogSec=2: ended after {seconds:.1f} s, and serves again"


def refused() -> str:
    """Bad configuration, and a newer edgeq's state, end it for good: exit code 2."""
    call("systemctl", "stop", "edgeq")
    text, found = CONFIG.read_text(), []
    CONFIG.write_text(text + "\nnonsense: 1\n")
    found.append(_ends_for_good("a wrong key"))
    CONFIG.write_text(text)
    registry = configured("state_dir") / "edgeq.db"
    set_schema(registry, 1)
    found.append(_ends_for_good("a newer schema"))
    set_schema(registry, 0)
    call("systemctl", "reset-failed", "edgeq")
    call("systemctl", "start", "edgeq")
    return "; ".join(found) + "; mended, it starts"


def _ends_for_good(what: str) -> str:
    call("systemctl", "reset-failed", "edgeq", check=False)
    call("systemctl", "start", "edgeq", check=False)
    time.sleep(3)  # RestartSec=2: by now it would have been started again
    active, count, code = shown("ActiveState", "NRestarts", "ExecMainStatus")
    assert (active, count, code) == ("failed", "0", "2"), (what, active, count, code)
    return f"{what}: exit code {code}, {count} restarts"


def socket_unit() -> str:
    """With edgeq.socket the first client starts it."""
    call("systemctl", "stop", "edgeq")
    call("systemctl", "start", "edgeq.socket")
    assert shown("ActiveState")[0] == "inactive"
    started = time.monotonic()
    status, engine = ask(http.client.HTTPConnection("127.0.0.1", PORT, timeout=30))
    seconds = time.monotonic() - started
    assert (status, engine) == ("200", "cpu-int8")
    call("systemctl", "stop", "edgeq.socket", "edgeq.service")
    call("systemctl", "start", "edgeq")
    return f"the first request was answered after {seconds:.2f} s, by {engine}"


def stop() -> str:
    """It ends by itself, in time, and leaves nothing."""
    started = time.monotonic()
    call("systemctl", "stop", "edgeq")
    seconds = time.monotonic() - started
    active, result, code = shown("ActiveState", "Result", "ExecMainStatus")
    assert (active, result, code) == ("inactive", "success", "0"), (active, result, code)
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", PORT)) != 0, "the port is still open"
    return f"after {seconds:.2f} s: {active}, {result}; the port is closed"


PARTS: dict[str, Callable[[], str]] = {
    "start": start,
    "deploy": deploy,
    "private": private,
    "hardening": hardening,
    "journal": journal,
    "reload": reload,
    "restart": restart,
    "crash": crash,
    "watchdog": watchdog,
    "refused": refused,
    "socket": socket_unit,
    "stop": stop,
}

NEED_A_MODEL = {"private", "journal", "restart", "crash", "watchdog", "socket"}


def main(arguments: list[str]) -> None:
    """Run the named parts in their order, and before them those that they need."""
    named = [each for each in arguments if not each.startswith("--")]
    wanted = {"start", *named} if named else set(PARTS)
    if wanted & NEED_A_MODEL:
        wanted.add("deploy")
    for name, part in PARTS.items():
        if name not in wanted:
            continue
        started = time.monotonic()
        try:
            result = {"part": name, "held": True, "found": part()}
        except Exception as error:  # noqa: BLE001 - the next part may hold
            result = {"part": name, "held": False, "found": repr(error)}
        result["seconds"] = round(time.monotonic() - started, 2)
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
