"""The GPU engine beside what else one would pick, on the same nets, GPU and day.

    python tools/bench_gpu.py --json figures.json
    python tools/bench_gpu.py --workloads resnet50_224 --batches 1 --contestants edgeq
    python tools/bench_gpu.py --models ../shared/data/models

Whole nets at batch 1, 8 and 32: p50 and p99 from float inputs in the host's memory to float outputs
there, one call after the other; "GPU us" is the net alone by the GPU's clock, repeated in one CUDA
graph. edgeq with one CUDA graph and launch by launch; torch.compile in fp16, channels_last, the
same two ways; LiteRT on the CPU with all threads. Layer by layer at the first batch: what edgeq
reaches of the board's peaks, beside cuDNN's INT8 convolutions (nvidia-cudnn-frontend, the best of
its plans) and torch._int_mm (cuBLASLt, without requantization). A step that carries out more than
the convolution, an addition or the next layer too, is compared whole.

Each measurement is a child process. A library that is not installed is listed as absent, with the
reason; after --limit seconds what is left is listed as skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.gpu_bench.program import bench_main

    return bench_main(__doc__ or "")


if __name__ == "__main__":
    sys.exit(run())
