"""Answered requests -> counts and nanoseconds per model and version, in Triton's JSON shape."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Where one request's time went: read and parsed, queued, in the engine, encoded and sent."""

    parse_ns: int
    queue_ns: int
    infer_ns: int
    encode_ns: int
    total_ns: int


@dataclass(slots=True)
class _Counters:
    """Of one version; plain numbers, for every request adds to all of them."""

    succeeded: int = 0
    failed: int = 0
    total_ns: int = 0  # of those that succeeded
    fail_ns: int = 0
    parse_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    encode_ns: int = 0
    last: float = 0.0  # seconds since the epoch


class Statistics:
    """The counters of one app; used from its event loop only."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str], _Counters] = {}

    def succeeded(self, model: str, version: str, timing: Timing) -> None:
        """Count an answered request."""
        counters = self._of(model, version)
        counters.succeeded += 1
        counters.total_ns += timing.total_ns
        counters.parse_ns += timing.parse_ns
        counters.queue_ns += timing.queue_ns
        counters.infer_ns += timing.infer_ns
        counters.encode_ns += timing.encode_ns
        counters.last = time.time()

    def failed(self, model: str, version: str, total_ns: int) -> None:
        """Count a request that got an error."""
        counters = self._of(model, version)
        counters.failed += 1
        counters.fail_ns += total_ns

    def _of(self, model: str, version: str) -> _Counters:
        key = (model, version)
        found = self._counters.get(key)
        if found is None:
            found = self._counters[key] = _Counters()
        return found

    def row(self, model: str, version: str) -> dict[str, Any]:
        """Return one entry of `model_stats`."""
        counters = self._counters.get((model, version), _Counters())
        count = counters.succeeded
        stages = {
            "success": (count, counters.total_ns),
            "fail": (counters.failed, counters.fail_ns),
            "queue": (count, counters.queue_ns),
            "compute_input": (count, counters.parse_ns),
            "compute_infer": (count, counters.infer_ns),
            "compute_output": (count, counters.encode_ns),
            "cache_hit": (0, 0),
            "cache_miss": (0, 0),
        }
        return {
            "name": model,
            "version": version,
            "last_inference": int(counters.last * 1e3),
            "inference_count": count,
            "execution_count": count,
            "inference_stats": {
                stage: {"count": requests, "ns": ns} for stage, (requests, ns) in stages.items()
            },
            "response_stats": {},
            "batch_stats": [],
        }
