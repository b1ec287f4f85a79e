"""The threads of this process -> where each of them is, in a line for the log."""

from __future__ import annotations

import sys
import threading
import traceback
from pathlib import Path

SHOWN = 12  # calls of each thread, the innermost ones


def stacks() -> dict[str, str]:
    """Return, by thread, its calls with the innermost first: `run loop.py:12 < main cli.py:3`."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, f"thread {ident}"): " < ".join(
            f"{call.name} {Path(call.filename).name}:{call.lineno}"
            for call in reversed(traceback.extract_stack(frame)[-SHOWN:])
        )
        for ident, frame in sys._current_frames().items()
    }
