from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from edgeq import allocator

# Threads that hold memory at the same time want an arena each; then everything is freed.
RSS_AFTER_MANY_THREADS = """
import ctypes, sys, threading
from edgeq import allocator
if sys.argv[1] == "bound":
    assert allocator.bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
barrier = threading.Barrier(12)
def work():
    barrier.wait()
    libc.malloc(64)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
heaps = [line for line in open("/proc/self/maps") if line.endswith(" 0 \\n") or " 00:00 0" in line]
reserved = [line.split()[0].split("-") for line in heaps if "---p" in line]
print(sum(int(end, 16) - int(start, 16) > 60 << 20 for start, end in reserved))
"""


def arenas(how: str) -> int:
    command = [sys.executable, "-c", RSS_AFTER_MANY_THREADS, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no mallopt: not glibc")
def test_threads_share_the_bounded_arenas() -> None:
    assert arenas("bound") <= allocator.ARENAS < arenas("free")


def test_trimming_is_harmless() -> None:
    allocator.trim()
