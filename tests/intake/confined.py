"""A program that tries forbidden things, each in a copy of itself -> what became of each."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

# In copies of itself, for some of what is tried ends the one that tries.
PRELUDE = """
import ctypes, json, mmap, os, platform, resource, signal, socket, sys, threading
from edgeq.intake import landlock, sandbox, seccomp, syscalls
libc = ctypes.CDLL(None, use_errno=True)
def confine():
    sandbox.limit(2 << 30, 5)
    return sandbox.confine()
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
def attempt(action):
    try:
        action()
    except OSError as error:
        return error.errno
    except BaseException as error:
        return type(error).__name__
    return "done"
def each(actions, confine=confine):
    found = {}
    for name, action in actions.items():
        end, out = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(out, 1)
            confine()
            os.write(1, json.dumps(attempt(action)).encode())
            os._exit(0)
        os.close(out)
        said = os.read(end, 100)
        os.close(end)
        status = os.waitpid(pid, 0)[1]
        found[name] = json.loads(said) if said else signal.Signals(os.WTERMSIG(status)).name
    print(json.dumps(found))
"""


def play(code: str, **options: Any) -> Any:
    """Run `code` after PRELUDE; return what it printed, which is JSON."""
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True, timeout=60, check=False, **options,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)
