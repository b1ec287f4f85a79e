"""What capture and the watch over drift cost the requests: their p99 with both on, over both off.

    python -m tools.bench_capture                                  # the repo's model
    python -m tools.bench_capture --model vww.tflite --data vww.npz --divide 255 --json out.json
    python -m tools.bench_capture --gap-ms 5                       # a client that waits in between

One daemon, one model built to INT8, one client with one connection that asks again as soon as it
has its answer, with another sample each time. Capture is switched by a reload of the configuration
in blocks of off, on, on, off, so that neither order nor the machine's drift decides; figures are
medians over the blocks, ratios are of neighbours. `rounds` of four blocks are measured after one
that warms up.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "tests" / "data"
ORDER = (False, True, True, False)
SETTLE_S = 0.3  # after a reload, before the first request that counts
BUILT_LIMIT_S = 300.0
SAMPLES = 128
SETTINGS = """\
samples: {{minimum: {samples}, maximum: 512, capture_ratio: {ratio}}}
build: {{method: max, refine: false, backend: cpu}}
swap: {{probation: {{window_s: 0.5}}}}
drift: {{policy: {policy}, interval_s: 10.0}}
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=DIGITS / "digits.tflite", help="float .tflite"
    )
    parser.add_argument(
        "--data", type=Path, default=DIGITS / "digits_samples.npz", help="npz with x [N, ...]"
    )
    parser.add_argument("--divide", type=float, default=1.0, help="what x is divided by")
    parser.add_argument("--rounds", type=int, default=5, help="of four blocks each")
    parser.add_argument("--block-s", type=float, default=4.0, help="seconds of a block")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="between answer and next request")
    parser.add_argument("--no-drift", action="store_true", help="capture alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


class Bench:
    """A daemon whose capture is switched on and off."""

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        from edgeq.cli.client import DaemonClient
        from tools.serve_bench.edgeq_daemon import start_edgeq

        self._root, self._options = root, options
        self.daemon = start_edgeq(root, extra=self._settings(ratio=0.0))
        self._client = DaemonClient(unix_socket=self.daemon.unix_socket)
        self._plain = (root / "edgeq.yaml").read_text()

    def _settings(self, ratio: float) -> str:
        policy = '"off"' if self._options.no_drift else "alert"
        return SETTINGS.format(samples=SAMPLES // 2, ratio=ratio, policy=policy)

    def switch(self, *, is_on: bool) -> None:
        """Capture every request, or none."""
        text = self._plain.replace(self._settings(0.0), self._settings(float(is_on)))
        (self._root / "edgeq.yaml").write_text(text)
        self._client.call("reload")
        time.sleep(SETTLE_S)

    def build(self, frames: Array) -> None:
        """Drop the model and have it built to INT8."""
        from tools.serve_bench.processes import ServerError

        samples = self._root / "samples.npz"
        np.savez(samples, x=frames[:SAMPLES].reshape(-1, *frames.shape[2:]))
        self.daemon.drop(self._options.model.read_bytes(), "bench")
        self.daemon.wait_served("bench")
        self._client.add_samples("bench", samples)
        deadline = time.monotonic() + BUILT_LIMIT_S
        while time.monotonic() < deadline:
            model = self.daemon.model("bench")
            if model["live"]["engine"] == "cpu-int8" and model["state"] == "serving":
                return
            time.sleep(0.1)
        raise ServerError(f"no INT8 engine after {BUILT_LIMIT_S:g} s: {model['reason']}")

    def block(self, requests: Sequence[bytes]) -> list[float]:
        """Ask for one block; return the seconds of each request."""
        from tools.serve_bench.wire import Connection

        connection = Connection(("127.0.0.1", self.daemon.http_port))
        taken: list[float] = []
        gap_s, ends = self._options.gap_ms / 1e3, time.monotonic() + self._options.block_s
        try:
            while time.monotonic() < ends:
                started = time.perf_counter()
                answer = connection.ask(requests[len(taken) % len(requests)])
                taken.append(time.perf_counter() - started)
                if answer.status != 200:
                    raise RuntimeError(f"a request was answered {answer.status}: {answer.body!r}")
                if gap_s:
                    time.sleep(gap_s)
        finally:
            connection.close()
        return taken


def frames_of(model: Path, data: Path, divide: float) -> tuple[str, str, Array]:
    """Return input, output and frames [N, *shape] of a model with one of each."""
    from edgeq.tflite.runtime import Runner

    runner = Runner(model.read_bytes())
    with np.load(data) as archive:
        values = archive["x"].astype(np.float32) / np.float32(divide)
    frames = values.reshape(-1, *runner.inputs[0].shape)
    return runner.inputs[0].name, runner.outputs[0].name, frames


def measure(bench: Bench, requests: Sequence[bytes], rounds: int) -> list[dict[str, Any]]:
    """Return each block's figures, in the order they were measured."""
    blocks = []
    for number in range(rounds + 1):
        for is_on in ORDER:
            bench.switch(is_on=is_on)
            taken = np.asarray(bench.block(requests)) * 1e3
            p50, p99 = np.percentile(taken, (50, 99))
            block = {"round": number, "on": is_on, "requests": len(taken),
                     "p50_ms": float(p50), "p99_ms": float(p99)}  # fmt: skip
            if number:
                blocks.append(block)
    return blocks


def summary(blocks: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return medians of either kind, and the median ratio of neighbours, on over off."""
    found: dict[str, float] = {}
    for figure in ("p50_ms", "p99_ms"):
        pairs = zip(blocks[::2], blocks[1::2], strict=True)
        ratios = [b[figure] / a[figure] if b["on"] else a[figure] / b[figure] for a, b in pairs]
        for word, is_on in (("off", False), ("on", True)):
            found[f"{figure}_{word}"] = float(
                np.median([block[figure] for block in blocks if block["on"] is is_on])
            )
        found[f"{figure}_ratio"] = float(np.median(ratios))
    return found


def main() -> int:
    """Run the program."""
    from tools.serve_bench.edgeq_daemon import remove
    from tools.serve_bench.wire import binary_request

    options = make_parser().parse_args()
    name, output, frames = frames_of(options.model, options.data, options.divide)
    requests = [binary_request("bench", name, frame, "FP32", output) for frame in frames[:SAMPLES]]
    root = Path(tempfile.mkdtemp(prefix="bench-capture-"))
    bench = Bench(root, options)
    try:
        bench.build(frames)
        blocks = measure(bench, requests, options.rounds)
        drift = bench.daemon.model("bench")["drift"]
    finally:
        bench.daemon.running.stop()
        remove(root)
    figures = summary(blocks)
    watched = len(drift["tensors"]) if drift else 0
    print(f"{options.model.name}: {frames[0].size} values a frame, {watched} streams watched")
    for figure in ("p50_ms", "p99_ms"):
        off, on, ratio = (figures[f"{figure}_{word}"] for word in ("off", "on", "ratio"))
        print(f"{figure[:3]}  off {off:.3f} ms   on {on:.3f} ms   on/off {ratio:.3f}")
    if options.json:
        options.json.write_text(json.dumps({"figures": figures, "blocks": blocks}, indent=1))
    return 0


if __name__ == "__main__":
    sys.path.append(str(ROOT))  # an installed edgeq comes first
    sys.exit(main())
