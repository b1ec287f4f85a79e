"""samples NAME show: stored samples -> a contact sheet, one HTML page or one PNG."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq import files
from edgeq.cli.arguments import count, load_config
from edgeq.cli.inputs import sidecar_of
from edgeq.config import Sidecar
from edgeq.errors import UsageError
from edgeq.intake.names import MODEL_SUFFIX
from edgeq.observe.contact_sheet import sheet_html, sheet_png
from edgeq.samples.sheet import USUAL, sheet_of_folder

FORMATS = {".html": "html", ".htm": "html", ".png": "png"}
MODE = 0o600  # they are what the box's sensors saw


def add_sheet(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `show`."""
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


def refuse_sheet_flags(options: argparse.Namespace) -> None:
    """Refuse flags that another action would not heed, and a file that is neither page nor picture.

    Raises:
        UsageError: there is one.
    """
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


def folder_sheet(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a store's folder shows, read by the sidecar beside the model's drop.

    Raises:
        SampleError: the folder cannot be read, or holds no samples.
        ConfigError: the configuration or the sidecar is wrong.
    """
    config = load_config(options)
    sidecar = Sidecar()
    if options.config is not None:
        sidecar = sidecar_of(config.models_dir / f"{options.name}{MODEL_SUFFIX}")
    ratio, limit = config.samples.held_out_ratio, options.limit or USUAL
    preprocessing = sidecar.preprocessing.options
    sheet = sheet_of_folder(options.samples, preprocessing, ratio, limit)
    return {"name": options.name, **sheet}


def write_sheet(options: argparse.Namespace, sheet: Mapping[str, Any]) -> dict[str, Any]:
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


def print_sheet(result: Mapping[str, Any]) -> None:
    """Say what was written."""
    print(
        f"{result['sheet']}: {result['shown']} of {result['total']} samples, "
        f"{result['bytes']} bytes; it is private"
    )
