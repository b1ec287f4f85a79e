"""What `GET /edgeq/status` may answer, made up for tests of the page."""

from __future__ import annotations

from typing import Any

NOW = 1_700_000_000.0


def a_stream(tensor: str = "image", **changes: Any) -> dict[str, Any]:
    stream = {
        "tensor": tensor,
        "kind": "input",
        "statistic": "psi",
        "psi": 0.05,
        "threshold": 0.1,
        "low_ratio": 0.01,
        "high_ratio": 0.001,
        "low_reference": 0.01,
        "high_reference": 0.001,
        "scale_ratio": 1.0,
    }
    return {**stream, **changes}


def a_drift(*streams: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"active": False, "reason": "", "samples": 200, "tensors": list(streams), **changes}


def a_version(version: str, **changes: Any) -> dict[str, Any]:
    known = {"engine": "cpu-int8", "method": "entropy", "state": "committed", "reason": "",
             "created": NOW, "model_sha256": "ab", "has_report": True}  # fmt: skip
    return {"version": version, **known, **changes}


def a_series(*points: tuple[Any, ...], swaps: Any = ()) -> dict[str, Any]:
    return {"interval_s": 10, "points": [list(p) for p in points], "swaps": list(swaps)}


POINTS = tuple((NOW - 10 * n, "3", "cpu-int8", 120, 0.5, 1.25) for n in range(20, -1, -1))


def a_model(**changes: Any) -> dict[str, Any]:
    model = {
        "live": {"version": "3", "engine": "cpu-int8", "since": 0.0, "method": "entropy"},
        "state": "serving",
        "reason": "",
        "progress": None,
        "build": None,
        "previous": "2",
        "versions": [a_version("3"), a_version("2", state="retired")],
        "pinned": False,
        "probation": None,
        "drift": a_drift(),
        "samples": {
            "fit": 48,
            "held_out": 16,
            "bytes": 4096,
            "minimum": 64,
            "maximum": 1024,
            "strata": [{"name": "before", "samples": 64}],
        },
        "latency": {"count": 12, "p50_ms": 0.5, "p99_ms": 1.25},
        "health": {"requests": 1234, "errors": 0, "nonfinite": 0},
        "queue_length": 0,
        "series": a_series(*POINTS),
    }
    return {**model, **changes}


UNSERVED = {"live": None, "latency": None, "drift": None, "state": "waiting", "previous": None,
            "versions": [], "series": a_series()}  # fmt: skip


def a_status(**models: dict[str, Any]) -> dict[str, Any]:
    return {
        "edgeq": "1.2.3",
        "now": NOW,
        "started": 0.0,
        "models": models,
        "events": [],
        "quarantine": [],
    }


def an_event(number: int = 0, **changes: Any) -> dict[str, Any]:
    event = {"time": NOW - number, "name": "face", "version": None, "kind": "committed",
             "message": f"message {number}"}  # fmt: skip
    return {**event, **changes}


def a_refusal(**changes: Any) -> dict[str, Any]:
    entry = {"id": "hand-1a2b", "time": 0.0, "name": "hand", "stage": "structure", "error": "cut",
             "hint": "again"}  # fmt: skip
    return {**entry, **changes}
