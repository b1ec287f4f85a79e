"""What several commands take: a parser with an example, --json, --config."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeq.config import Config, load
from edgeq.errors import UsageError

Subparsers = Any  # argparse's own class for it is private


def add_command(
    commands: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command whose --help ends with an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration (default: $EDGEQ_CONFIG)"
    )


def load_config(options: argparse.Namespace) -> Config:
    """Return the configuration that --config or the environment names.

    Raises:
        ConfigError: the file is wrong.
    """
    return load(options.config, os.environ)


def existing_file(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises:
        UsageError: it is not.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="Check the path.")
    return path
