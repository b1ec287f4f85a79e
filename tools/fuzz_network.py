"""Sends random and damaged requests to a real daemon over HTTP and gRPC, and tells what came back.

  python -m tools.fuzz_network                          # 10,000 requests, a minute or two
  python -m tools.fuzz_network --requests 100000 --seed 7 --json out.json

Three of five go over HTTP, by TCP and the Unix socket in turn, the others over gRPC. Faults are: a
status that is not defined, an error that is not JSON with an `error`, a 500 or gRPC's INTERNAL or
UNKNOWN, a right request that is refused, a request that is neither answered nor hung up on, another
answer of the model that nobody touches, and after it all: a daemon that has died, that holds more
memory, descriptors or threads than at the beginning, or a traceback or the token in its log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tools.columns import aligned
from tools.fuzzing.box import TOKEN, Box, Held, box
from tools.fuzzing.grpc_calls import GrpcCalls
from tools.fuzzing.grpc_side import call_all, throw_frames
from tools.fuzzing.http_requests import PIXELS, SHAPE, TENSOR, WITNESS, HttpRequests
from tools.fuzzing.http_side import Tally, send_all
from tools.serve_bench.wire import Connection, http_request

# A client that stops in the middle is given up on in half a second.
LIMITS = ", limits: {header_timeout_s: 0.3, body_timeout_s: 0.3, idle_timeout_s: 5}"
SEGMENT_BYTES = 1 << 14
ROUND = 500  # requests between two looks at the model that nobody touches
FRAMES_SHARE = 0.05
SETTLE_S = 20.0
MORE_RSS_BYTES = 64 << 20
MORE_DESCRIPTORS = 8
MORE_THREADS = 16  # of bounded pools, which start theirs when first needed


@dataclass
class Found:
    """What came of a run."""

    seed: int
    requests: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, dict[str, int]] = field(default_factory=dict)
    before: Held | None = None
    after: Held | None = None
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000, help="of both protocols together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with box(server=LIMITS) as served:
        found = fuzz(served, options.requests, options.seed)
    rows = [(protocol, status, str(count)) for protocol, counts in found.statuses.items()
            for status, count in sorted(counts.items())]  # fmt: skip
    print(aligned(("protocol", "status", "count"), [(row[0], row[2], row[1]) for row in rows]))
    print(f"{found.requests} in {found.seconds:.0f} s, {len(found.faults)} faults")
    print(f"before {found.before}\nafter  {found.after}")
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=1))
    for fault in found.faults[:20]:
        print(f"\n{fault}")
    sys.exit(bool(found.faults))


def fuzz(served: Box, requests: int, seed: int) -> Found:
    """Send so many requests to a daemon, and look at it before, meanwhile and after."""
    found, started = Found(seed), time.monotonic()
    over_http, over_grpc = Tally(), Tally()
    with _segment(seed) as region:
        draws = [random.Random(f"{seed} {name}") for name in ("http", "grpc", "frames")]
        https, grpcs = (HttpRequests(draws[0], region, TOKEN), GrpcCalls(draws[1], region, TOKEN))
        served.serve("toy")
        _restore(served, WITNESS)  # from what an earlier run did
        witness = _witness(served)
        found.before = served.held()
        sent: Counter[str] = Counter()
        while sum(sent.values()) < requests and served.is_alive:
            count = min(ROUND, requests - sum(sent.values()))
            parts = {"http": -(-3 * count // 5), "grpc": 2 * count // 5}
            _restore(served, "toy")
            addresses = (("127.0.0.1", served.daemon.http_port), served.daemon.unix_socket)
            batch = [https.next() for _ in range(parts["http"])]
            asyncio.run(send_all(batch, addresses, over_http))
            _restore(served, "toy")
            call_all([grpcs.next() for _ in range(parts["grpc"])], served.daemon.grpc_port,
                     over_grpc)  # fmt: skip
            throw_frames(draws[2], int(FRAMES_SHARE * count), served.daemon.grpc_port)
            sent.update(parts)
            if served.is_alive and _witness(served) != witness:
                over_http.faults.append("the model that nobody touches answers otherwise")
        found.faults = [*over_http.faults, *over_grpc.faults, *_aftermath(served, found)]
    found.requests = dict(sent)
    found.statuses = {"http": dict(over_http.statuses), "grpc": dict(over_grpc.statuses)}
    found.seconds = time.monotonic() - started
    return found


def _aftermath(served: Box, found: Found) -> Iterator[str]:
    """Yield what is wrong with the daemon once all clients have gone."""
    if not served.is_alive:
        yield f"the daemon died: {served.log[-2000:]}"
        return
    assert found.before is not None, "looked at in the beginning"
    deadline = time.monotonic() + SETTLE_S
    while True:
        found.after = served.held()
        grown = _grown(found.before, found.after)
        if not grown or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    yield from grown
    if TOKEN in served.log:
        yield "the token is in the log"
    if "Traceback" in served.log:
        yield f"in the log: {served.log[served.log.index('Traceback') :][:3000]}"


def _grown(before: Held, after: Held) -> list[str]:
    bounds = {"rss_bytes": MORE_RSS_BYTES, "descriptors": MORE_DESCRIPTORS, "threads": MORE_THREADS}
    return [
        f"{name} grew from {getattr(before, name)} to {getattr(after, name)}"
        for name, bound in bounds.items()
        if getattr(after, name) - getattr(before, name) > bound
    ]


def _ask(served: Box, path: str, body: bytes) -> tuple[int, bytes]:
    connection = Connection(served.daemon.unix_socket)
    try:
        answer = connection.ask(http_request(path, body))
        return answer.status, answer.body
    finally:
        connection.close()


def _restore(served: Box, name: str) -> None:
    """Serve a model again, whatever was done to it."""
    _ask(served, "/edgeq/unpin", json.dumps({"name": name}).encode())
    status, said = _ask(served, f"/v2/repository/models/{name}/load", b"")
    if status != 200:
        raise SystemExit(f"the model cannot be loaded again: {status} {said!r}")


def _witness(served: Box) -> bytes:
    """Return what the model that nobody touches answers to the same input."""
    data = np.linspace(0, 1, PIXELS).tolist()
    given = {"name": TENSOR, "shape": SHAPE, "datatype": "FP32", "data": data}
    body = json.dumps({"inputs": [given]}).encode()
    status, said = _ask(served, f"/v2/models/{WITNESS}/infer", body)
    if status != 200:
        return f"{status} {said!r}".encode()
    return json.dumps(json.loads(said)["outputs"]).encode()


@contextmanager
def _segment(seed: int) -> Iterator[str]:
    """Make a shared memory segment for the time."""
    path = Path(f"/dev/shm/edgeq-fuzz-{seed}-{time.time_ns()}")
    path.write_bytes(bytes(SEGMENT_BYTES))
    try:
        yield path.name
    finally:
        path.unlink()


if __name__ == "__main__":
    main()
