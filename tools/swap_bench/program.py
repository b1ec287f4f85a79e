"""The command line of `tools/bench_swap.py`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.serve_bench.processes import end_on_terminate
from tools.serve_bench.program import PEERS
from tools.swap_bench.cases import Swap, run_cases
from tools.swap_bench.drops import run_drops
from tools.swap_bench.overload import Overload, run_overload
from tools.swap_bench.report import cases_text, overload_text, soak_text
from tools.swap_bench.soak import Soak, run_soak

DATA = Path(__file__).resolve().parents[2] / "tests/data"
MOST_RSS_RATIO = 1.1


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", action="store_true", help="the three cases, beside MLServer")
    add("--swaps", type=int, default=0, metavar="N", help="so many swaps: what the daemon holds")
    add("--overload", action="store_true", help="ten times the capacity, and slow clients")
    add("--load-s", type=float, default=2.0, help="what a load takes in --cases, seconds")
    add("--peers", type=Path, default=PEERS, help="folder of the peers' environments")
    add("--json", type=Path, default=None, help="file for all figures of --cases and the like")
    add("--clients", type=int, default=4, help="threads that send requests")
    add("--seconds", type=float, default=20.0, help="of the drops, or of the overload")
    add("--drops", type=int, default=3, help="new versions of the float model")
    add("--model", type=Path, default=DATA / "digits.tflite", help="float, for the drops")
    add("--data", type=Path, default=DATA / "digits_samples.npz", help="x [N, ...], for the drops")
    add("--divide", type=float, default=1.0, help="x is divided by this")
    return parser


def case_is_well(swap: Swap) -> bool:
    """True where edgeq failed nothing; the peer's failures are figures, not ours."""
    return swap.server != "edgeq" or (swap.during is not None and swap.during.failed == 0)


def soak_is_well(soak: Soak) -> bool:
    first, last = soak.held[0], soak.held[-1]
    return (
        soak.all.failed == 0
        and soak.rss_ratio <= MOST_RSS_RATIO
        and last.descriptors <= first.descriptors + 2  # a registry's or a log's, of the moment
    )


def overload_is_well(found: Overload) -> bool:
    accepted = found.accepted_p99_ms
    return (
        accepted is not None
        and accepted <= found.deadline_s * 1e3
        and found.refused_without_retry_after == 0
        and all(told.startswith("cut off") for told in found.slow.values())
    )


def run_all(options: argparse.Namespace, work: Path) -> tuple[dict[str, Any], bool]:
    """Run what was asked for, print it, and return all figures and whether edgeq did well."""
    told: dict[str, Any] = {}
    is_well = True
    if options.cases:
        swaps = run_cases(options.load_s, options.clients, options.peers.resolve(), work)
        print(cases_text(swaps, options.load_s, options.clients) + "\n", flush=True)
        told["cases"], is_well = [asdict(swap) for swap in swaps], all(map(case_is_well, swaps))
    if options.swaps:
        soak = run_soak(options.swaps, options.clients, work)
        print(soak_text(soak) + "\n", flush=True)
        told["soak"], is_well = asdict(soak), is_well and soak_is_well(soak)
    if options.overload:
        found = run_overload(options.seconds, work)
        print(overload_text(found) + "\n", flush=True)
        told["overload"], is_well = asdict(found), is_well and overload_is_well(found)
    return told, is_well


def main(description: str) -> int:
    """Run the command line; 1 where edgeq failed a request or broke a promise."""
    options = make_parser(description).parse_args()
    end_on_terminate()
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as folder:
        work = Path(folder).resolve()
        if not (options.cases or options.swaps or options.overload):
            result = run_drops(options, work)
            print(json.dumps(result, indent=1))
            return 1 if result["failed"] or result["wrong"] else 0
        told, is_well = run_all(options, work)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(__doc__ or ""))
