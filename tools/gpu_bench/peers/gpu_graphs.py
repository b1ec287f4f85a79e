"""Work on torch's stream -> its microseconds, replayed as a CUDA graph as the engine's is."""

from __future__ import annotations

from collections.abc import Callable

import torch

REPEATS = 20  # in one graph: a launch from Python takes longer than a small kernel
RUNS = 10


def microseconds(work: Callable[[], object]) -> float:
    """Return the least mean of some repetitions in a row; what is read stays in the cache."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(REPEATS):
            work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    least = float("inf")
    for _ in range(RUNS):
        with torch.cuda.stream(stream):
            start.record()
            graph.replay()
            end.record()
        end.synchronize()
        least = min(least, start.elapsed_time(end))
    return least * 1e3 / REPEATS
