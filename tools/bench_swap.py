"""Hot swaps under load: failed requests, wrong answers, and p99 during a swap against steady.

    python -m tools.bench_swap                                    # the repo's own small model
    python -m tools.bench_swap --model vww.tflite --data vww.npz --divide 255 --seconds 60
    python -m tools.bench_swap --cases                            # beside MLServer, in the same run
    python -m tools.bench_swap --swaps 200
    python -m tools.bench_swap --overload --seconds 10

Without an option a real daemon serves a float model to tritonclient threads (binary tensors) while
new versions of it are dropped, built and swapped in. Every answer is held afterwards against the
bundle of the version that it names.

--cases: a model that takes 2 s to load gets a new version, one that does not load, and a reload.
--swaps: drops one version after the other; memory, descriptors and threads of the daemon with it.
--overload: ten times the requests that a model can answer, and clients that send a byte a second.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.swap_bench.program import main

    return main(__doc__ or "")


if __name__ == "__main__":
    sys.exit(run())
