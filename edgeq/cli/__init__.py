"""The commands; the only place that prints and exits.

Exit codes: 0 done; 1 the thing failed (a gate, a build, no daemon); 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

import edgeq
from edgeq.cli import box, building, measuring, remote
from edgeq.cli.output import print_json
from edgeq.errors import EdgeqError, UsageError

__all__ = ["main"]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="edgeq",
        description="A float .tflite model -> a calibrated, verified INT8 engine that serves.",
    )
    parser.add_argument("--version", action="version", version=f"edgeq {edgeq.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (box, building, measuring, remote):
        module.register(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except EdgeqError as error:
        return _report(error, as_json=getattr(options, "json", False))
    except BrokenPipeError:  # `edgeq history NAME | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _report(error: EdgeqError, *, as_json: bool) -> int:
    if as_json:
        kind = type(error).__name__
        print_json({"error": error.message, "hint": error.hint, "kind": kind})
    print(f"edgeq: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1
