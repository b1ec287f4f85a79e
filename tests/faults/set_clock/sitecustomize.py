"""A process whose time of day can be set while it runs: $SET_CLOCK names a file with an offset, s.

Python imports this at its start, where the folder is in PYTHONPATH. Only what asks `time.time` is
told another time; the clocks that nobody sets go on, and so do the times of files.
"""

import os
import time

_real = time.time


def _offset() -> float:
    try:
        with open(os.environ["SET_CLOCK"]) as file:
            return float(file.read())
    except (OSError, KeyError, ValueError):
        return 0.0


def _set_time() -> float:
    return max(0.0, _real() + _offset())


time.time = _set_time
