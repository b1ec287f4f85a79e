"""samples: what a model is calibrated on, through its daemon; contact sheets of folders too."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq import files
from edgeq.cli.arguments import Subparsers, add_command, count, existing_file, load_config
from edgeq.cli.inputs import sidecar_of
from edgeq.cli.output import print_table
from edgeq.cli.remote import add_daemon, client_of, clock, show
from edgeq.config import Sidecar
from edgeq.errors import UsageError
from edgeq.intake.names import MODEL_SUFFIX
from edgeq.observe.contact_sheet import sheet_html, sheet_png
from edgeq.samples.sheet import USUAL, sheet_of_folder

FORMATS = {".html": "html", ".htm": "html", ".png": "png"}
MODE = 0o600  # they are what the box's sensors saw


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands, "samples", run_samples,
        help="the samples a model is calibrated on", example="edgeq samples face show --out f.html",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("action", choices=("add", "list", "prune", "erase", "show"))
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    _add_sheet(parser)
    add_daemon(parser)


def _add_sheet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="show: the contact sheet, .html or .png (default: NAME.samples.html)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=count, metavar="N", help=f"show: the newest N samples (default: {USUAL})"
    )
    parser.add_argument(
        "--samples", type=Path, metavar="DIR",
        help="show: read this folder of a sample store, without a daemon",
    )  # fmt: skip


def run_samples(options: argparse.Namespace) -> int:
    """`edgeq samples`."""
    _refuse(options)
    if options.action == "show":
        return show(options, _write_sheet(options, _sheet(options)), _print_sheet)
    client = client_of(options)
    if options.action == "add":
        added = [client.add_samples(options.name, existing_file(path)) for path in options.files]
        total = {**added[-1], "added": sum(answer["added"] for answer in added)}
        return show(options, total, lambda r: print(f"{r['added']} added, {r['stored']} stored"))
    result = client.call("samples", name=options.name, action=options.action)
    return show(options, result, _print_samples)


def _print_samples(result: Mapping[str, Any]) -> None:
    if "kept" in result:
        print(f"{result['removed']} samples erased, captured and added")
        if result["kept"]:
            print(
                f"{len(result['kept'])} bundles keep the few inputs that they prove themselves by"
            )
        return
    if "removed" in result:
        print(f"{result['removed']} captured samples removed")
        return
    rows = [
        (row["id"][:12], row["origin"], "held out" if row["held_out"] else "fit",
         row["bytes"], clock(row["time"]), row.get("stratum", ""))
        for row in result["samples"]
    ]  # fmt: skip
    print_table(("sample", "origin", "set", "bytes", "time", "drift"), rows)


def _refuse(options: argparse.Namespace) -> None:
    """Refuse files and flags that the action does not heed, and a sheet of no known format."""
    if (options.action == "add") != bool(options.files):
        needs = "needs a file" if options.action == "add" else "takes no file"
        raise UsageError(
            f"samples {options.action} {needs}",
            hint="Write `edgeq samples NAME add FILE...`, .npy, .npz, .png or .jpg.",
        )
    given = [flag for flag in ("out", "limit", "samples") if getattr(options, flag) is not None]
    if given and options.action != "show":
        raise UsageError(
            f"samples {options.action} takes no --{given[0]}",
            hint=f"Write `edgeq samples {options.name} show --{given[0]} ...`.",
        )
    if options.out is not None and options.out.suffix.lower() not in FORMATS:
        raise UsageError(
            f"--out {options.out} ends in {options.out.suffix!r}; .html or .png is expected",
            hint="Name the file so that its end says the format.",
        )


def _sheet(options: argparse.Namespace) -> Mapping[str, Any]:
    """Return what the daemon shows, or a folder, read by the sidecar beside the model's drop."""
    limit = options.limit or USUAL
    if options.samples is None:
        client = client_of(options)
        return client.call("samples", name=options.name, action="show", limit=limit)
    config = load_config(options)
    sidecar = Sidecar()
    if options.config is not None:
        sidecar = sidecar_of(config.models_dir / f"{options.name}{MODEL_SUFFIX}")
    ratio, preprocessing = config.samples.held_out_ratio, sidecar.preprocessing.options
    sheet = sheet_of_folder(options.samples, preprocessing, ratio, limit)
    return {"name": options.name, **sheet}


def _write_sheet(options: argparse.Namespace, sheet: Mapping[str, Any]) -> dict[str, Any]:
    """Write the contact sheet so that only its owner can read it; return what it shows."""
    out = options.out or Path(f"{options.name}.samples.html")
    name = str(sheet["name"])
    if FORMATS[out.suffix.lower()] == "png":
        content = sheet_png(name, sheet)
    else:
        content = sheet_html(name, sheet).encode()
    files.write_atomic(out, content, mode=MODE)
    shown, total = len(sheet["samples"]), sheet["total"]
    return {"sheet": str(out), "bytes": len(content), "shown": shown, "total": total}


def _print_sheet(result: Mapping[str, Any]) -> None:
    print(
        f"{result['sheet']}: {result['shown']} of {result['total']} samples, "
        f"{result['bytes']} bytes; it is private"
    )
