"""A folder of this run of the tests, whichever process of it asks: what lies there is made once."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "TESTS_RUN_FOLDER"  # set by the process that starts the workers


def open_run_folder() -> None:
    """Make the folder, and tell all processes that are started from now on."""
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="edgeq-tests-")


def close_run_folder() -> None:
    """Remove the folder."""
    shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` as `make` filled it: the first to ask does, the others wait."""
    whole = Path(os.environ[VARIABLE])
    folder, mark = whole / name, whole / f"{name}.made"
    with (whole / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            mark.touch()
    return folder
