"""The commands; the only place that prints and exits.

Exit codes: 0 done; 1 the thing failed (a gate, a build, no daemon); 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence

import edgeq
from edgeq.cli.output import print_json, printable
from edgeq.errors import EdgeqError, GateError, UsageError

__all__ = ["main", "make_parser"]

logger = logging.getLogger(__name__)

LINE_BREAK = "\n"  # a message about several keys has several lines
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "box": ("run", "check-config", "doctor"),
    "building": ("build",),
    "tables": ("calibrate", "merge", "export"),
    "measuring": ("eval", "bench"),
    "reporting": ("report",),
    "remote": (
        "status", "pin", "unpin", "recalibrate", "history", "rollback", "quarantine", "resume",
        "reload",
    ),
    "samples": ("samples",),
}  # fmt: skip


def make_parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser of the whole command line, or of that part which has `command`.

    Only its modules are imported: a build does not need the daemon's, which take 0.3 s of CPU.
    """
    parser = argparse.ArgumentParser(
        prog="edgeq",
        description="A float .tflite model -> a calibrated, verified INT8 engine that serves.",
        epilog="example:\n  edgeq build face.tflite --samples captures/ --out face.bundle",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"edgeq {edgeq.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    own = [name for name, its_commands in COMMANDS.items() if command in its_commands]
    for name in own or COMMANDS:
        importlib.import_module(f"edgeq.cli.{name}").register(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = make_parser(*given[:1]).parse_args(given)
    as_json = getattr(options, "json", False)
    try:
        code = int(options.run(options))
        print(
            end="", flush=True
        )  # here, where a closed pipe is still an answer and not noise at exit
    except EdgeqError as error:
        return _report(error, as_json=as_json)
    except BrokenPipeError:  # `edgeq history NAME | head`
        _silence_stdout()
        return 1
    except (OSError, MemoryError) as error:
        return _report(_of_the_box(error), as_json=as_json)
    except KeyboardInterrupt:
        return 130
    return code


def _of_the_box(error: OSError | MemoryError) -> EdgeqError:
    """A path that cannot be read or written, a full disk: the box's matter, not a bug's."""
    logger.debug("the system refused", exc_info=error)
    if isinstance(error, MemoryError):
        hint = "Free some, or raise the limit (build.memory_bytes for the daemon's builds)."
        found = EdgeqError("there is not enough memory", hint=hint)
    else:
        reason = error.strerror or str(error) or type(error).__name__
        where = f"{error.filename}: " if error.filename else ""
        hint = "Check the path, its rights and the free space."
        found = EdgeqError(f"{where}{reason}", hint=hint)
    found.__cause__ = error
    return found


def _fault(error: EdgeqError) -> dict[str, str]:
    """Name the fault of the box that an error tells of: a daemon then tries a build again."""
    # Here, for it takes Prometheus' client along, which no command needs that succeeds.
    from edgeq.daemon.faults import kind_of

    kind = kind_of(error)
    return {} if kind is None else {"fault": kind}


def _silence_stdout() -> None:
    """Nobody reads any more: let what is still in the buffer go nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _report(error: EdgeqError, *, as_json: bool) -> int:
    if as_json:
        result = {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
        verdict = {"verdict": error.verdict} if isinstance(error, GateError) else {}
        print_json({**result, **verdict, **_fault(error)})
    print(f"edgeq: {printable(error.message, keep=LINE_BREAK)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {printable(error.hint)}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1
