"""The closed loop on a real model: its inputs change, and a better engine takes over, or none.

    python -m tools.bench_loop --model resnet8.tflite --traffic calib.npz --eval eval.npz
    python -m tools.bench_loop ... --divide 255 --times 0.15   # x / 255; then darker
    python -m tools.bench_loop ... --poison noise   # noise | rails | huge instead

A real daemon serves the float model to a client that sends the traffic's samples over and over,
builds and swaps the INT8 engine in, and then gets the changed ones. Afterwards the engine before
and the one that serves at the end are held to the float model on eval samples that the daemon never
saw, as they were and changed: agreement of choices, SQNR in dB, and the choices that only one of
the two gets right, with the chance that equal engines differ so (of 300 samples, by 1.7 % without
any difference). One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY))  # an installed edgeq comes first

from edgeq.build.difference import sign_test  # noqa: E402
from edgeq.bundle import Bundle  # noqa: E402
from edgeq.engines.base import Engine  # noqa: E402
from edgeq.engines.table import load_cpu, load_float  # noqa: E402
from edgeq.samples.store import Sample, sample_id  # noqa: E402
from edgeq.verify import VerifyOptions, verify  # noqa: E402
from tools.serve_bench.edgeq_daemon import EdgeqDaemon, start_edgeq  # noqa: E402

Array = npt.NDArray[Any]
NAME = "model"
PAUSE_S = 0.02  # between two requests: a camera's pace
LIMIT_S = 180.0  # for each step
EXTRA = """\
samples: {{minimum: {minimum}}}
swap: {{probation: {{window_s: 2.0}}}}
drift: {{window: {window}, interval_s: 0.5, minimum_interval_s: 1.0, daily_budget: 4}}
"""
POISONS: dict[str, Callable[[np.random.Generator, Array], Array]] = {
    "noise": lambda draw, x: draw.uniform(0, 255, x.shape),
    "rails": lambda draw, x: np.where(draw.random(x.shape) < 0.5, 0.0, 255.0),
    "huge": lambda draw, x: x * 1000.0,
}


class Client:
    """One client that sends frames until it is stopped; nothing is tried twice."""

    def __init__(self, daemon: EdgeqDaemon, tensor: str, frames: Callable[[], Array]) -> None:
        self._port, self._tensor = daemon.http_port, tensor
        self.frames = frames
        self.answered: dict[str, int] = {}  # by version
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(30)

    def _run(self) -> None:
        import tritonclient.http as triton
        from tritonclient.utils import InferenceServerException

        client = triton.InferenceServerClient(f"127.0.0.1:{self._port}")
        while not self._stop.is_set():
            frame = self.frames().astype(np.float32)
            given = triton.InferInput(self._tensor, list(frame.shape), "FP32")
            given.set_data_from_numpy(frame, binary_data=True)
            try:
                version = str(client.infer(NAME, [given]).get_response()["model_version"])
                self.answered[version] = self.answered.get(version, 0) + 1
            except (OSError, InferenceServerException) as error:
                self.failures.append(str(error))
            time.sleep(PAUSE_S)
        client.close()


def wait(what: str, daemon: EdgeqDaemon, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the model's status once it is so."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if (found := daemon.model(NAME)) and is_so(found):
            return found
        time.sleep(0.1)
    raise SystemExit(
        f"not seen within {LIMIT_S:g} s: {what}: {json.dumps(daemon.model(NAME))[:900]}"
    )


def judged(engine: Engine, reference: Engine, tensor: str, frames: Array) -> dict[str, Any]:
    """Hold an engine to the float model."""
    inputs = [{tensor: frame[np.newaxis].astype(np.float32)} for frame in frames]
    samples = [Sample(sample_id(given), given) for given in inputs]
    verdict = verify(reference.infer, engine, samples, VerifyOptions())
    return {"agreement": verdict.agreement, "sqnr_db": round(verdict.sqnr_db, 2)}


def paired(
    engines: dict[str, Engine], reference: Engine, tensor: str, frames: Array
) -> dict[str, Any]:
    """Count the choices that only the engine after, and only the one before, has as float has."""
    counted = {"gained": 0, "lost": 0}
    for frame in frames:
        given = {tensor: frame[np.newaxis].astype(np.float32)}
        chosen = _choices(reference, given)
        before, after = (_choices(engines[side], given) == chosen for side in ("before", "after"))
        counted["gained"] += after and not before
        counted["lost"] += before and not after
    chance = sign_test(max(counted.values()), min(counted.values()))
    return {**counted, "chance": round(min(1.0, 2 * chance), 3)}


def _choices(engine: Engine, inputs: dict[str, Array]) -> list[int]:
    outputs = engine.infer(inputs)
    return [int(outputs[spec.name].argmax()) for spec in engine.outputs]


def measure(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    content = options.model.read_bytes()
    reference = load_float(content)
    tensor = reference.inputs[0].name
    draw = np.random.default_rng(options.seed)
    with np.load(options.traffic) as traffic, np.load(options.eval) as held:
        pool, evaluated = traffic["x"].astype(np.float32), held["x"].astype(np.float32)
    draw.shuffle(evaluated)  # half of it is traffic too, half is never seen by the daemon
    pool = np.concatenate([pool, evaluated[: len(evaluated) // 2]])
    evaluated = evaluated[len(evaluated) // 2 :][: options.most]

    def changed(x: Array) -> Array:
        return POISONS[options.poison](draw, x) if options.poison else np.floor(x * options.times)

    def frames(change: Callable[[Array], Array]) -> Callable[[], Array]:
        return lambda: change(pool[draw.integers(len(pool))])[np.newaxis] / options.divide

    extra = EXTRA.format(minimum=options.minimum, window=options.window)
    daemon = start_edgeq(root, extra=extra)
    try:
        client = Client(daemon, tensor, frames(lambda x: x))
        story = run(daemon, client, content, frames(changed), options)
        engines = {
            side: load_cpu(Bundle.open(root / f"state/bundles/{NAME}/{v}").read("int8.tflite"), 1)
            for side, v in (("before", story["before"]), ("after", story["after"]))
        }
    finally:
        daemon.running.stop()
    both = {"old": evaluated / options.divide, "new": changed(evaluated) / options.divide}
    figures = {
        kind: {
            **{side: judged(engine, reference, tensor, x) for side, engine in engines.items()},
            **paired(engines, reference, tensor, x),
        }
        for kind, x in both.items()
    }
    return {**story, "evaluated": len(evaluated), **figures}


def run(
    daemon: EdgeqDaemon,
    client: Client,
    content: bytes,
    changed: Callable[[], Array],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Tell the story to the daemon; return what became of it."""
    daemon.drop(content, NAME)
    daemon.wait_served(NAME)
    with client.running():
        found = wait("INT8", daemon, lambda m: (m["live"] or {}).get("engine", "float") != "float")
        before = found["live"]["version"]
        wait("the window fills", daemon, lambda m: _window(m) >= 0.9 * options.window)
        wait("it is proven", daemon, lambda m: m["state"] == "serving")
        client.frames, started = changed, time.monotonic()
        found = wait("drift", daemon, lambda m: bool((m["drift"] or {}).get("active")))
        reason, noticed_s = found["drift"]["reason"], time.monotonic() - started
        wait("an answer", daemon, lambda m: bool(_answers(daemon) or _unfit(m)))
        if options.poison:  # let it try as often as it may
            time.sleep(options.linger)
        found = daemon.model(NAME)
        return {
            "reason": reason,
            "noticed_s": round(noticed_s, 1),
            "answered_s": round(time.monotonic() - started, 1),
            "answers": [f"{e['kind']}: {e['message']}" for e in _answers(daemon)][::-1],
            "unfit": _unfit(found),
            "before": before,
            "after": found["live"]["version"],
            "is_active_still": bool((found["drift"] or {}).get("active")),
            "requests": client.answered,
            "failed": len(client.failures),
        }


def _window(model: dict[str, Any]) -> float:
    return float((model["drift"] or {}).get("samples", 0.0))


def _unfit(model: dict[str, Any]) -> str:
    """Why these frames are not to be calibrated on; "" where they may be."""
    return str((model["drift"] or {}).get("unfit") or "")


def _answers(daemon: EdgeqDaemon) -> list[dict[str, Any]]:
    kinds = ("recalibrated", "recalibration refused")
    return [event for event in daemon.status()["events"] if event["kind"] in kinds]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "traffic", "eval"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--divide", type=float, default=1.0, help="of the values, by this")
    parser.add_argument("--times", type=float, default=0.15, help="the changed values over the old")
    parser.add_argument("--poison", choices=sorted(POISONS), help="instead: these frames")
    parser.add_argument("--minimum", type=int, default=64, help="samples.minimum")
    parser.add_argument("--window", type=int, default=100, help="drift.window")
    parser.add_argument("--most", type=int, default=1000, help="eval samples")
    parser.add_argument("--linger", type=float, default=20.0, help="seconds of poison")
    parser.add_argument("--seed", type=int, default=0)
    with tempfile.TemporaryDirectory(prefix="edgeq-loop-") as folder:
        print(json.dumps(measure(parser.parse_args(), Path(folder)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
