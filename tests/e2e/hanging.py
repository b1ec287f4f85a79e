"""edgeq with engines of one kind that hang while a file is there: `python -m tests.e2e.hanging`.

HANGING names the file; its content is the kind that hangs. IS_INLINE is "yes" where models run on
the thread of the server's loop, as the quick ones do; else they run on workers.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.cli import main
from edgeq.engines.cpu import CpuEngine
from edgeq.swap.pool import Pool

answer = CpuEngine.infer


def infer(self: CpuEngine, inputs: Mapping[str, Any]) -> dict[str, Any]:
    hanging = Path(os.environ["HANGING"])
    while hanging.exists() and hanging.read_text() == self.kind:
        time.sleep(0.01)
    return answer(self, inputs)


def is_inline(_pool: Pool, _seconds: float) -> bool:
    return os.environ["IS_INLINE"] == "yes"


if __name__ == "__main__":
    CpuEngine.infer = infer  # type: ignore[method-assign]
    Pool.is_quicker_than = is_inline  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
