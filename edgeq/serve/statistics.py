"""Answered requests -> counts and nanoseconds per model and version, in Triton's JSON shape."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Where one request's time went: read and parsed, queued, in the engine, encoded and sent."""

    parse_ns: int
    queue_ns: int
    infer_ns: int
    encode_ns: int
    total_ns: int


@dataclass
class _Sum:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def row(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass
class _Counters:
    success: _Sum = field(default_factory=_Sum)
    fail: _Sum = field(default_factory=_Sum)
    parse: _Sum = field(default_factory=_Sum)
    queue: _Sum = field(default_factory=_Sum)
    infer: _Sum = field(default_factory=_Sum)
    encode: _Sum = field(default_factory=_Sum)
    last_ms: int = 0


class Statistics:
    """The counters of one app; used from its event loop only."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str], _Counters] = {}

    def succeeded(self, model: str, version: str, timing: Timing) -> None:
        """Count an answered request."""
        counters = self._of(model, version)
        counters.success.add(timing.total_ns)
        counters.parse.add(timing.parse_ns)
        counters.queue.add(timing.queue_ns)
        counters.infer.add(timing.infer_ns)
        counters.encode.add(timing.encode_ns)
        counters.last_ms = time.time_ns() // 1_000_000

    def failed(self, model: str, version: str, total_ns: int) -> None:
        """Count a request that got an error."""
        self._of(model, version).fail.add(total_ns)

    def _of(self, model: str, version: str) -> _Counters:
        key = (model, version)
        if key not in self._counters:
            self._counters[key] = _Counters()
        return self._counters[key]

    def row(self, model: str, version: str) -> dict[str, Any]:
        """Return one entry of `model_stats`."""
        counters = self._counters.get((model, version), _Counters())
        count = counters.success.count
        none = _Sum()
        return {
            "name": model,
            "version": version,
            "last_inference": counters.last_ms,
            "inference_count": count,
            "execution_count": count,
            "inference_stats": {
                "success": counters.success.row(),
                "fail": counters.fail.row(),
                "queue": counters.queue.row(),
                "compute_input": counters.parse.row(),
                "compute_infer": counters.infer.row(),
                "compute_output": counters.encode.row(),
                "cache_hit": none.row(),
                "cache_miss": none.row(),
            },
            "response_stats": {},
            "batch_stats": [],
        }
