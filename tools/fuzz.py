"""Feeds damaged inputs to everything that reads bytes from outside, and tells what should not be.

  python -m tools.fuzz --inputs 1000000          # over all readers, about ten minutes
  python -m tools.fuzz --only model,http --seed 7

Each reader runs in a process of its own, so that a crash is seen; what fails is kept in --keep.
An input may be answered by an error of edgeq's; any other exception, a crash, an input that takes
a second, or memory that grows is a fault. Inputs that end at a new place join the corpus.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.columns import aligned
from tools.fuzzing.mutation import MOST_KEPT, mutate

ROOT = Path(__file__).resolve().parents[1]
SLOW_S = 1.0
MOST_FAULTS = 20
GROWTH_BYTES = 256 << 20


@dataclass
class Found:
    """What came of one reader."""

    name: str
    inputs: int = 0
    refused: int = 0
    places: int = 0  # where inputs ended, that is in how many ways
    seconds: float = 0.0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers, separated by commas")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="folder for faults")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        found = fuzz(options.child, options.inputs, options.seed, options.keep)
        json.dump(asdict(found), sys.stdout)
        return
    rows = _run_all(options)
    print(aligned(
        ("reader", "inputs", "refused", "places", "us each", "slowest ms", "faults"),
        [(row.name, str(row.inputs), str(row.refused), str(row.places),
          f"{row.seconds / max(row.inputs, 1) * 1e6:.0f}", f"{row.slowest_s * 1e3:.1f}",
          str(len(row.faults))) for row in rows],
    ))  # fmt: skip
    print(f"{sum(r.inputs for r in rows)} inputs, {sum(len(r.faults) for r in rows)} faults")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    for row in rows:
        for fault in row.faults:
            print(f"\n{row.name}: {fault}")
    sys.exit(any(row.faults for row in rows))


def _run_all(options: argparse.Namespace) -> list[Found]:
    from tools.fuzzing.targets import make_targets

    wanted = set(filter(None, options.only.split(",")))
    targets = [each for each in make_targets(ROOT) if not wanted or each.name in wanted]
    whole = sum(target.share for target in targets)
    return [
        _run_child(target.name, -(-options.inputs * target.share // whole), options)
        for target in targets
    ]


def _run_child(name: str, inputs: int, options: argparse.Namespace) -> Found:
    command = [sys.executable, "-m", "tools.fuzz", "--child", name, "--inputs", str(inputs),
               "--seed", str(options.seed), "--keep", str(options.keep.absolute())]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Found(**json.loads(done.stdout))
    fault = f"the process ended with {done.returncode}: {done.stderr[-2000:]}"
    return Found(name, faults=[fault])


def fuzz(name: str, inputs: int, seed: int, keep: Path) -> Found:
    """Feed one reader; the input that is being read is in `keep`, should the process die."""
    from tools.fuzzing.targets import make_targets

    faulthandler.enable()
    warnings.simplefilter("error")
    folder = tempfile.TemporaryDirectory(prefix="edgeq-fuzz-")
    target = next(each for each in make_targets(Path(folder.name)) if each.name == name)
    draw, corpus, found = random.Random(f"{name}-{seed}"), list(target.corpus), Found(name)
    seen: Counter[str] = Counter()
    keep.mkdir(parents=True, exist_ok=True)
    current = keep / f"{name}-{os.getpid()}-current"
    descriptor = os.open(current, os.O_RDWR | os.O_CREAT)
    memory = 0
    for number in range(-len(corpus), inputs):
        content = corpus[number] if number < 0 else mutate(draw, corpus)
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        started = time.process_time()  # a busy machine is nobody's fault
        place = "taken"
        try:
            target.feed(content)
        except target.errors as error:
            found.refused += 1
            place = _place(error)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            place = f"{type(error).__name__} {_place(error)}"
            if place not in seen:
                _note(found, keep, content, traceback.format_exc(limit=-6))
        took_s = time.process_time() - started
        if took_s > SLOW_S:
            _note(found, keep, content, f"it took {took_s:.1f} s")
        found.slowest_s = max(found.slowest_s, took_s)
        found.seconds += took_s
        seen[place] += 1
        if seen[place] == 1 and len(corpus) < MOST_KEPT:
            corpus.append(content)
        if number == inputs // 10:
            memory = _resident()
    if memory and _resident() - memory > GROWTH_BYTES:
        found.faults.append(f"memory grew from {memory >> 20} to {_resident() >> 20} MiB")
    os.close(descriptor)
    current.unlink()
    folder.cleanup()
    found.inputs, found.places = inputs, len(seen)
    return found


def _place(error: Exception) -> str:
    """Where an error came from: the innermost line, and what led there."""
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    return " ".join(f"{frame.filename}:{frame.lineno}" for frame in frames)


def _note(found: Found, keep: Path, content: bytes, what: str) -> None:
    if len(found.faults) < MOST_FAULTS:
        path = keep / f"{found.name}-{len(found.faults)}"
        path.write_bytes(content)
        found.faults.append(f"{path}: {what}")


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main()
