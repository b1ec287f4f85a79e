"""Holds a real daemon against its own OpenAPI description, with Schemathesis.

  python -m tools.check_openapi                       # 200 examples of each operation, minutes
  python -m tools.check_openapi --examples 5 --seed 7

The daemon's token is sent, so that every operation is reached. What must hold: no status, content
type, header or body that the description does not have; no 500; what the description forbids is
refused; no answer to a forbidden method; without the token, nothing where it is needed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.fuzzing.box import TOKEN, Box, box

# Not `positive_data_acceptance`: which names, shapes and files are right is the model's to say.
# A readiness check that answers 503, or a model that is not loaded, is no failure.
CHECKS = """\
[checks]
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
negative_data_rejection.expected-statuses = ["4xx", "503"]
"""
PHASES = "coverage,fuzzing"


@dataclass(frozen=True)
class Outcome:
    """What came of a run; `text` is Schemathesis' own words, `kinds` names what failed where."""

    operations: int
    cases: int
    failures: int
    kinds: list[str]
    text: str


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=200, help="of each operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phases", default=PHASES)
    options = parser.parse_args()
    with box() as served:
        outcome = check(served, options.examples, options.seed, options.phases)
        is_alive = served.is_alive
    print(outcome.text)
    sys.exit(bool(outcome.failures) or not is_alive)


def check(served: Box, examples: int, seed: int, phases: str = PHASES) -> Outcome:
    """Run Schemathesis against a daemon; SystemExit where it does not run at all."""
    with tempfile.TemporaryDirectory(prefix="edgeq-openapi-") as folder:
        config, report = Path(folder) / "schemathesis.toml", Path(folder) / "report.json"
        config.write_text(CHECKS)
        address = f"http://127.0.0.1:{served.daemon.http_port}/v2/openapi.json"
        command = [
            str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config),
            "run", address, "--header", f"Authorization: Bearer {TOKEN}",
            "--max-examples", str(examples), "--seed", str(seed), "--phases", phases,
            "--request-timeout", "30", "--no-shrink", "--continue-on-failure",
            "--warnings", "off", "--report-json-path", str(report),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if not report.exists():
            raise SystemExit(f"schemathesis ended with {done.returncode}: {done.stderr[-2000:]}")
        return _outcome(json.loads(report.read_text()), done.stdout)


def _outcome(report: dict[str, Any], text: str) -> Outcome:
    return Outcome(
        operations=report["operations"]["tested"],
        cases=report["test_cases"]["generated"],
        failures=report["test_cases"]["with_failures"] + len(report["errors"]),
        kinds=[f"{each['title']}: {each['operations']}" for each in report["failures"]],
        text=text,
    )


if __name__ == "__main__":
    main()
