"""Commands to a running daemon: status, history, rollback, pin, quarantine, reload."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeq.cli.arguments import (
    Subparsers,
    add_command,
    add_config,
    add_json,
    load_config,
)
from edgeq.cli.client import Credentials, DaemonClient
from edgeq.cli.output import print_json, print_table, printable
from edgeq.errors import UsageError

Row = tuple[object, ...]


def register(commands: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(
        commands, "status", run_status,
        help="what each model is doing", example="edgeq status --config /etc/edgeq/edgeq.yaml",
    )  # fmt: skip
    add_daemon(parser)
    for name, run, text in (
        ("pin", run_pin, "keep the version that serves, whatever is dropped"),
        ("unpin", run_unpin, "take drops again"),
        ("recalibrate", run_recalibrate, "build again on the samples of now"),
    ):
        parser = add_command(commands, name, run, help=text, example=f"edgeq {name} face")
        parser.add_argument("name", metavar="NAME")
        add_daemon(parser)
    parser = add_command(
        commands, "history", run_history,
        help="versions and events of a model, or of all", example="edgeq history face",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME")
    add_daemon(parser)
    parser = add_command(
        commands, "rollback", run_rollback,
        help="serve the previous version again", example="edgeq rollback face --to 3",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--to", metavar="VERSION", help="a version of `edgeq history`")
    add_daemon(parser)
    _register_quarantine(commands)
    parser = add_command(
        commands, "resume", run_resume,
        help="end safe mode: take drops and build again", example="edgeq resume",
    )  # fmt: skip
    add_daemon(parser)
    parser = add_command(
        commands, "reload", run_reload,
        help="re-read the configuration; returns when it is in force",
        example="edgeq reload --wait",
    )  # fmt: skip
    parser.add_argument("--wait", action="store_true", help="the default: kept for units")
    add_daemon(parser)


def _register_quarantine(commands: Subparsers) -> None:
    parser = add_command(
        commands, "quarantine", run_quarantine,
        help="drops that were refused, and why", example="edgeq quarantine show face-1a2b3c4d5e6f",
    )  # fmt: skip
    parser.add_argument(
        "action", nargs="?", default="list", choices=("list", "show", "retry", "rm")
    )
    parser.add_argument("id", nargs="?", help="as `edgeq quarantine list` shows it")
    add_daemon(parser)


def add_daemon(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name a daemon, and --json."""
    add_config(parser)
    parser.add_argument(
        "--url", help="http://HOST:PORT or https://HOST:PORT instead; token from $EDGEQ_TOKEN"
    )
    for flag, text in (
        ("--token-file", "file whose first line is the token"),
        ("--ca", "PEM authorities to trust, not the system's"),
        ("--cert", "PEM certificate to show the daemon"),
        ("--key", "its PEM key, where --cert does not hold it"),
    ):
        parser.add_argument(flag, type=Path, metavar="FILE", help=f"with --url: {text}")
    add_json(parser)


def client_of(options: argparse.Namespace) -> DaemonClient:
    """Return a client of the daemon that the flags or the configuration name.

    Raises:
        UsageError: none is named.
        ConfigError: the configuration is wrong.
    """
    if options.url:
        credentials = Credentials(options.token_file, options.ca, options.cert, options.key)
        return DaemonClient(url=options.url, credentials=credentials)
    return DaemonClient(unix_socket=load_config(options).socket_path)


def show(options: argparse.Namespace, result: Any, as_text: Callable[[Any], None]) -> int:
    """Print a result as JSON where --json asks for it, else as text; returns the exit code."""
    if options.json:
        print_json(result)
    else:
        as_text(result)
    return 0


def run_status(options: argparse.Namespace) -> int:
    """`edgeq status`."""
    return show(options, client_of(options).status(), _print_status)


def _print_status(status: Mapping[str, Any]) -> None:
    rows = [_status_row(name, model) for name, model in sorted(status["models"].items())]
    header = ("model", "state", "version", "engine", "method", "p50 ms", "samples", "note")
    print_table(header, rows)
    if safe_mode := status.get("safe_mode"):
        wait = f"{safe_mode['ends_in_s'] / 60:.0f} min"
        print(f"\nSafe mode, nothing is built: {safe_mode['reason']}; it ends in {wait}, or by")
        print("edgeq resume")
    if status["quarantine"]:
        print(f"\n{len(status['quarantine'])} drops in quarantine: edgeq quarantine list")


def _status_row(name: str, model: Mapping[str, Any]) -> Row:
    live = model["live"] or {}
    latency, progress, samples = model["latency"], model["progress"], model["samples"]
    p50 = f"{latency['p50_ms']:.2f}" if latency and latency["count"] else ""
    drift = model["drift"]["reason"] if model["drift"] and model["drift"]["active"] else ""
    step = f"{progress['stage']} {progress['done']}/{progress['total']}" if progress else ""
    stored = f"{samples['fit'] + samples['held_out']}/{samples['minimum']}"
    note = "; ".join(part for part in (step, drift, model["reason"]) if part)
    version, engine = live.get("version", "-"), live.get("engine", "-")
    return name, model["state"], version, engine, live.get("method", "-"), p50, stored, note


def run_history(options: argparse.Namespace) -> int:
    """`edgeq history`."""
    client = client_of(options)
    if options.name:
        return show(options, client.call("history", name=options.name), _print_history)
    names = sorted(client.status()["models"])
    histories = {name: client.call("history", name=name) for name in names}
    return show(options, {"models": histories}, _print_histories)


def _print_histories(result: Mapping[str, Any]) -> None:
    for name, history in result["models"].items():
        print(f"-- {printable(name)}")
        _print_history(history)
        print()


def _print_history(history: Mapping[str, Any]) -> None:
    rows: list[Row] = [
        ("*" if str(v["version"]) == history["live"] else "", v["version"], v["state"],
         v["engine"], v["method"], clock(v["created"]), v["reason"])
        for v in history["versions"]
    ]  # fmt: skip
    print_table(("", "version", "state", "engine", "method", "created", "reason"), rows)
    print()
    events: list[Row] = [
        (clock(e["time"]), e["version"] or "", e["kind"], e["message"]) for e in history["events"]
    ]
    print_table(("time", "version", "event", ""), events)


def run_rollback(options: argparse.Namespace) -> int:
    """`edgeq rollback`."""
    result = client_of(options).call("rollback", name=options.name, to=options.to)
    return show(
        options, result, lambda r: print(f"{r['name']}: version {r['version']} serves again")
    )


def run_pin(options: argparse.Namespace) -> int:
    """`edgeq pin`."""
    result = client_of(options).call("pin", name=options.name)
    return show(options, result, lambda r: print(f"{r['name']} stays at version {r['version']}"))


def run_unpin(options: argparse.Namespace) -> int:
    """`edgeq unpin`."""
    result = client_of(options).call("unpin", name=options.name)
    return show(options, result, lambda r: print(f"{r['name']} takes drops again"))


def run_recalibrate(options: argparse.Namespace) -> int:
    """`edgeq recalibrate`."""
    result = client_of(options).call("recalibrate", name=options.name)
    return show(
        options, result, lambda r: print(f"{r['name']}: building from {r['samples']} samples")
    )


def run_quarantine(options: argparse.Namespace) -> int:
    """`edgeq quarantine`."""
    if options.action != "list" and not options.id:
        raise UsageError(
            f"quarantine {options.action} needs an id", hint="See `edgeq quarantine list`."
        )
    if options.action == "list" and options.id:
        raise UsageError(
            f"quarantine list takes no id; {options.id!r} is one",
            hint=f"Use `edgeq quarantine show {options.id}`.",
        )
    result = client_of(options).call("quarantine", action=options.action, id=options.id)
    return show(options, result, _print_quarantine)


def _print_quarantine(result: Mapping[str, Any]) -> None:
    if "entries" in result:
        rows: list[Row] = [
            (e["id"], e["stage"], clock(e["time"]), e["error"]) for e in result["entries"]
        ]
        print_table(("id", "stage", "time", "reason"), rows)
        return
    for key, value in result.items():
        print(f"{key:8s} {clock(value) if key == 'time' else printable(str(value))}")


def run_resume(options: argparse.Namespace) -> int:
    """`edgeq resume`."""
    result = client_of(options).call("resume")
    said = "drops are taken again" if result["resumed"] else "it was not in safe mode"
    return show(options, result, lambda _: print(said))


def run_reload(options: argparse.Namespace) -> int:
    """`edgeq reload`."""
    return show(options, client_of(options).call("reload"), _print_reload)


def _print_reload(changes: Mapping[str, Any]) -> None:
    print(f"in force: {', '.join(changes['applied']) or 'nothing changed'}")
    if changes["needs_restart"]:
        print(f"after a restart: {', '.join(changes['needs_restart'])}")


def clock(seconds: float) -> str:
    """Return a time of this box's zone, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
