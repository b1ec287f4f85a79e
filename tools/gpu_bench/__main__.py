"""Checks the GPU engine bit for bit against the CPU engine, then times it beside others.

    tools/gpu_check --json gpu.json
    tools/gpu_check --wheels wheels/ --models ../shared/data --batches 1 --no-bench

The op table and every model, each answer bit for bit; after that what tools/bench_gpu.py does.
Ends by itself after --limit seconds: what is left is listed as skipped.
"""

from __future__ import annotations

import sys

from tools.gpu_bench.program import check_main

if __name__ == "__main__":
    sys.exit(check_main(__doc__ or ""))
