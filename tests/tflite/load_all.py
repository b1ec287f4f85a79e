"""python load_all.py FOLDER: load and run each file; print the name before it is tried.

A child process of its own, so that the last name printed is the one that killed it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgeq.errors import EdgeqError
from edgeq.tflite.runtime import Runner

for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        runner = Runner(path.read_bytes())
        runner.run({s.name: np.zeros([abs(e) for e in s.shape], s.dtype) for s in runner.inputs})
        print("ran")
    except EdgeqError as error:
        print("refused:", error)
