"""`python -m tools.swap_bench.slow_engine run --config FILE`: edgeq's daemon, its engines slowed.

BENCH_LOAD_S: how long each interpreter sleeps before it loads. BENCH_INFER_S: and before it runs.
BENCH_LOADS: a file that gets a line for each load. A model that holds `REFUSED` does not load.
Only the daemon's own process is changed: the children that admit and build are edgeq's own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import EngineError
from edgeq.tflite.runtime import Runner

REFUSED = "this version does not load"


def slow_down(load_s: float, infer_s: float, loads: Path | None) -> None:
    """Replace the interpreter's loading and running by slower ones."""
    load, run = Runner.__init__, Runner.run

    def slow_load(self: Runner, content: bytes, **options: Any) -> None:
        time.sleep(load_s)
        if loads is not None:
            with loads.open("a") as lines:
                lines.write(f"{time.time()}\n")
        if REFUSED.encode() in content:
            raise EngineError(REFUSED)
        load(self, content, **options)

    def slow_run(self: Runner, inputs: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(infer_s)
        return run(self, inputs)

    Runner.__init__ = slow_load  # type: ignore[assignment,method-assign]
    if infer_s:
        Runner.run = slow_run  # type: ignore[method-assign]


if __name__ == "__main__":
    from edgeq.cli import main

    given = os.environ
    file = given.get("BENCH_LOADS")
    slow_down(float(given.get("BENCH_LOAD_S", 0)), float(given.get("BENCH_INFER_S", 0)),
              Path(file) if file else None)  # fmt: skip
    sys.exit(main())
