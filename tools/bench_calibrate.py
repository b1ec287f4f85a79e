"""Calibration and quantization: edgeq beside its peers, on the same model, samples and machine.

    python tools/bench_calibrate.py                               # the repository's own models
    python tools/bench_calibrate.py --model face=face.tflite --samples captures/ --data test.npz
    python tools/bench_calibrate.py --tasks FOLDER --keep models/ --json
    python tools/bench_calibrate.py --cost --tasks FOLDER

For each tool and setting: the time of calibrating and quantizing (and its CPU time, which a busy
machine does not change), the peak of resident memory, in all and over what was there when the
work began, and the model that came out on labelled data. Peers are installed from the package
index, each in an environment of its own; one that refuses a model is listed with its reason.

Every .tflite runs in LiteRT with one thread, every .onnx in onnxruntime, where its maker lives.
What a tool leaves in float costs it nothing here: `float ops` counts those of its convolutions and
matrix products, and an .onnx may also add, pool and finish in float where a .tflite does not.
SQNR is 10 log10(sum float^2 / sum (float - int8)^2) over all frames, of the worst output;
agreement is that of the top class, where an output is one score vector.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.calibration_bench.program import main

    return main(__doc__ or "")


if __name__ == "__main__":
    sys.exit(run())
