"""A real daemon on a temporary state folder, a small trained model, real images, live traffic.

Shows, as they happen: drop -> float served -> samples captured -> calibrated -> INT8 verified ->
swapped, then the camera overexposes, the drift is noticed, and a recalibrated engine that is better
on the new images takes over.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = REPOSITORY / "tests/data/digits.tflite"
IMAGES = REPOSITORY / "tests/data/digits_samples.npz"
MINIMUM = 64
WINDOW = 100
BRIGHTER = 3.0  # darker ones lie within the ranges that there are: no engine is better for them
FULL = 0.9  # of a window: old frames fade, so that it never quite holds its size
PAUSE_S = 0.04  # between two requests of a client: a camera's pace, at which every frame is seen
STEP_TIMEOUT_S = 90.0

CONFIG = """\
models_dir: {root}/models
state_dir: {root}/state
server: {{http_port: 0, grpc_port: 0, metrics_port: 0}}
samples: {{minimum: {minimum}, maximum: 512}}
swap: {{probation: {{window_s: 3.0}}}}
drift: {{window: {window}, interval_s: 1.0, minimum_interval_s: 1.0}}
intake: {{settle_s: 1.0}}
"""

Status = dict[str, Any]


class DemoError(Exception):
    """A step was not seen."""


class Traffic:
    """Two clients that send test images, binary tensors over a kept connection."""

    def __init__(self, port: int) -> None:
        data = np.load(IMAGES)
        self._images, self._labels = data["x"].astype(np.float32), data["y"]
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.brightness = 1.0
        self.errors: list[str] = []
        self.answers: Counter[str] = Counter()
        self.correct: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._send, args=(seed,), name=f"client-{seed}")
            for seed in range(2)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stop.is_set():
            number = int(draw.integers(len(self._images)))
            try:
                version, scores = self._infer(connection, self._images[number] * self.brightness)
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.errors.append(str(error))
                return
            with self._lock:
                self.answers[version] += 1
                self.correct[version] += int(scores.argmax() == self._labels[number])
            time.sleep(PAUSE_S)

    def _infer(
        self, connection: http.client.HTTPConnection, image: np.ndarray
    ) -> tuple[str, np.ndarray]:
        raw = image.astype(np.float32).tobytes()
        parameters = {"binary_data_size": len(raw)}
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, *image.shape]}
        request = {
            "inputs": [{**tensor, "parameters": parameters}],
            "parameters": {"binary_data_output": True},
        }
        head = json.dumps(request).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", "/v2/models/digits/infer", head + raw, headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {body[:200]!r}")
        length = int(response.headers["Inference-Header-Content-Length"])
        version = json.loads(body[:length])["model_version"]
        return version, np.frombuffer(body[length:], np.float32)


class Demo:
    """Starts the daemon, tells the story, and ends it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._started = time.monotonic()
        self._daemon: subprocess.Popen[str] | None = None
        self._traffic: Traffic | None = None
        self._port = self._metrics_port = 0

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:5.1f} s] {text}", flush=True)

    def run(self) -> None:
        self._start_daemon()
        models = self._root / "models"
        shutil.copy(MODEL, models / "digits.tflite.part")  # not a drop until it has its name
        (models / "digits.tflite.part").rename(models / "digits.tflite")
        self.say(f"dropped  {MODEL.name} ({MODEL.stat().st_size} bytes, float) into the folder")
        status = self._wait("the float model serves", lambda s: _engine(s) == "float")
        self.say(f"served   version {_live(status)['version']}, the float model, at once")
        self._traffic = Traffic(self._port)
        self._traffic.start()
        self.say("traffic  two clients send images of handwritten digits")
        self._first_build()
        self._drift()
        self._sum_up()

    def _start_daemon(self) -> None:
        config = self._root / "edgeq.yaml"
        config.write_text(CONFIG.format(root=self._root, minimum=MINIMUM, window=WINDOW))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EDGEQ_")}
        command = [sys.executable, "-m", "edgeq", "run", "--config", str(config)]
        self._daemon = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment
        )
        assert self._daemon.stderr is not None
        log: list[str] = []
        for line in self._daemon.stderr:
            log.append(line)
            if "serving on" in line:
                break
        else:
            raise DemoError("the daemon did not start:\n" + "".join(log))
        # e.g. "serving on 127.0.0.1:8000, metrics on :8002, socket ..."
        words = log[-1].split("serving on ")[1].split(", ")
        self._port, self._metrics_port = (int(word.rsplit(":", 1)[1]) for word in words[:2])
        threading.Thread(target=self._keep_log, daemon=True).start()
        self.say("daemon   started")
        print(f"\n    status page  http://127.0.0.1:{self._port}/")
        print(f"    metrics      http://127.0.0.1:{self._metrics_port}/metrics\n", flush=True)

    def _keep_log(self) -> None:
        assert self._daemon is not None
        assert self._daemon.stderr is not None
        with (self._root / "edgeq.log").open("w") as log:
            for line in self._daemon.stderr:
                log.write(line)
                log.flush()

    def _first_build(self) -> None:
        self._wait(f"{MINIMUM} samples are captured", lambda s: _samples(s) >= MINIMUM)
        self.say(f"captured {MINIMUM} samples from the live requests")
        status = self._wait("an INT8 engine serves", lambda s: _engine(s) == "cpu-int8")
        self._tell_build(status)
        self._wait("the probation ends", lambda s: _model(s)["state"] == "serving")
        self.say("swapped  the probation is over; no request was lost")

    def _tell_build(self, status: Status) -> None:
        live = _live(status)
        bundle = self._root / "state/bundles/digits" / live["version"]
        table = json.loads((bundle / "calibration.json").read_bytes())
        verdict = json.loads((bundle / "verdict.json").read_bytes())
        self.say(
            f"calibrated {len(table['tensors'])} tensors on {table['samples']} samples "
            f"(ranges by {live['method']})"
        )
        self.say(
            f"verified on {verdict['samples']} held-out samples: agreement with float "
            f"{verdict['agreement']:.1%}, SQNR {verdict['sqnr_db']:.1f} dB"
        )
        self.say(f"swapped  version {live['version']} ({live['engine']}) serves")

    def _drift(self) -> None:
        assert self._traffic is not None
        before = _live(self._status())["version"]
        self._wait("the drift window fills", lambda s: _window(s) >= FULL * WINDOW)
        self._traffic.brightness = BRIGHTER
        self.say(f"drift    the images get {BRIGHTER:g} times as bright")
        status = self._wait("the drift is noticed", lambda s: bool(_drift(s).get("active")))
        self.say(f"noticed  {_drift(status)['reason']}")
        status = self._wait(
            "a recalibrated engine serves",
            lambda s: _live(s)["version"] != before and _engine(s) == "cpu-int8",
        )
        self._tell_build(status)
        self._tell_comparison(status)
        self._wait(
            "the drift is over", lambda s: _window(s) >= FULL * WINDOW and not _drift(s)["active"]
        )
        self.say("settled  the new engine knows the bright images: no drift any more")

    def _tell_comparison(self, status: Status) -> None:
        bundle = self._root / "state/bundles/digits" / _live(status)["version"]
        verdict = json.loads((bundle / "verdict.json").read_bytes())
        old, new, beside = verdict["old"], verdict["new"], verdict["comparison"]["new"]
        self.say(
            f"proven   on old images agreement {old['agreement']:.1%}, on new ones "
            f"{new['agreement']:.1%}: {beside['gain_db']:+.1f} dB beside the engine before"
        )

    def _sum_up(self) -> None:
        assert self._traffic is not None
        if self._traffic.errors:
            raise DemoError(f"requests failed: {self._traffic.errors[:3]}")
        right = self._traffic.correct
        shares = [
            f"version {version}: {count} requests, {right[version] / count:.1%} right"
            for version, count in sorted(self._traffic.answers.items())
        ]
        self.say(f"answers  {'; '.join(shares)}; 0 failed")

    def _status(self) -> Status:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/edgeq/status")
            status: Status = json.loads(connection.getresponse().read())
            return status
        finally:
            connection.close()

    def _wait(self, what: str, is_so: Callable[[Status], bool]) -> Status:
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._daemon is not None and self._daemon.poll() is not None:
                raise DemoError(f"the daemon ended while waiting until {what}")
            if self._traffic is not None and self._traffic.errors:
                raise DemoError(f"a request failed: {self._traffic.errors[0]}")
            status = self._status()
            if "digits" in status["models"] and is_so(status):
                return status
            time.sleep(0.1)
        raise DemoError(
            f"not seen within {STEP_TIMEOUT_S:g} s: {what}\n{json.dumps(status)[:3000]}"
        )

    def linger(self) -> None:
        """Go on until Ctrl-C, so that the pages can be looked at."""
        self.say("the daemon and the traffic go on; Ctrl-C ends them")
        signal.pause()

    def close(self) -> None:
        if self._traffic is not None:
            self._traffic.stop()
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            self._daemon.wait(30)


def _model(status: Status) -> Status:
    model: Status = status["models"]["digits"]
    return model


def _live(status: Status) -> Status:
    return _model(status)["live"] or {}


def _engine(status: Status) -> str:
    return str(_live(status).get("engine", ""))


def _samples(status: Status) -> int:
    samples = _model(status)["samples"]
    return int(samples["fit"] + samples["held_out"])


def _drift(status: Status) -> Status:
    return _model(status)["drift"] or {}


def _window(status: Status) -> float:
    return float(_drift(status).get("samples", 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end when every step was seen")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeq-demo-") as folder:
        demo = Demo(Path(folder))
        try:
            demo.run()
            if not options.exit:
                demo.linger()
        except DemoError as error:
            print(f"demo: {error}", file=sys.stderr)
            log = Path(folder) / "edgeq.log"
            print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print()
        finally:
            demo.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
