"""What several commands take: a parser with an example, --json, --config, checked numbers."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.cli.client import TOKEN_VARIABLE
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.config import Config

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
        allow_abbrev=False,  # a script's --thr must not change its meaning with the next release
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


def environment() -> dict[str, str]:
    """Return the environment that configures; the client's token is no key of a configuration."""
    return {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}


def load_config(options: argparse.Namespace) -> Config:
    """Return the configuration that --config or the environment names.

    Raises:
        ConfigError: the file is wrong.
    """
    from edgeq.config import load  # here: it takes 0.3 s, which `edgeq pin` by --url need not

    return load(options.config, environment())


def existing_file(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises:
        UsageError: it is not.
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not a file"
        raise UsageError(f"{path} is {what}", hint="Check the path.")
    return path


def read_model(path: Path) -> bytes:
    """Return a .tflite file whose structure is sound: a runtime may be given it.

    Raises:
        UsageError: there is no such file.
        ModelError: it is damaged, or no TFLite model.
    """
    from edgeq.tflite.model import Model  # here: numpy takes 0.1 s
    from edgeq.tflite.structure import check_structure

    content = existing_file(path).read_bytes()
    check_structure(Model.from_bytes(content))
    return content


def count(text: str) -> int:
    """Read a whole number of 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a reader of numbers from `low` to `high`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return read


def finite(text: str) -> float:
    """Read any finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value
