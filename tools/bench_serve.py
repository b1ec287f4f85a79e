"""Serving: edgeq's daemon beside its peers and beside what an HTTP server is made of.

    python -m tools.bench_serve                                   # the identity, the repo's model
    python -m tools.bench_serve --model vww_int8.tflite --data vww.npz --divide 255 --json out.json
    python -m tools.bench_serve --workload identity --only edgeq,asyncio --concurrency 1

Two workloads: the identity on 1x96x96x3 uint8 (27,648 bytes each way) and a real INT8 model (a
float one is built first, by `edgeq build`). edgeq runs as `edgeq run` starts it, with its defaults;
the peers are installed from the package index, each into an environment of its own under --peers.
All servers are up at once and take turns in interleaved rounds, one client process at a time with
one keep-alive connection for each unit of concurrency; figures are medians of the rounds with their
range, ratios are taken round by round. Every client first holds the answers against LiteRT's.

MLServer's model takes and gives numpy arrays, by its codecs; `echo` hands back the list of numbers
that MLServer read, which no model could, and stays out of `x MLServer`. kserve's client makes a
list of a binary answer's values: 10 ms of its own.
`asyncio.Protocol` is the bound: no HTTP parser, no validation, the identity without an interpreter.
`bare interpreter` is LiteRT in the client's process; what a server adds is `p50 - bare`. MiB is the
resident memory of a server and its children at the end. What cannot be measured gives its reason.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.serve_bench.program import main

    return main(__doc__ or "")


if __name__ == "__main__":
    sys.exit(run())
