"""Drops of a float model under load -> failed and wrong answers, p99 around a swap and in a build.

Every answer is held afterwards against the bundle of the version that it names; each drop is the
model with its weights moved a little, so that no version can pass for another.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.bundle import Bundle
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.e2e.daemon import Daemon, infer

AROUND_S = 0.5  # "during a swap" is this long before and after the first answer of a version
IMAGES = 64


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent, how long it took, who answered, and what."""

    sent: float
    seconds: float
    version: str
    image: int
    output: np.ndarray


class Clients:
    """Threads that send images without a pause."""

    def __init__(self, daemon: Daemon, images: np.ndarray, runner: Runner, count: int) -> None:
        self._daemon = daemon
        self._images = images
        self._names = (runner.inputs[0].name, runner.outputs[0].name)
        self._stop = threading.Event()
        self.answers: list[list[Answer]] = [[] for _ in range(count)]
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Answer]:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        return sorted((a for own in self.answers for a in own), key=lambda a: a.sent)

    def _send(self, number: int) -> None:
        client = self._daemon.triton()
        tensor, output = self._names
        turn = number
        while not self._stop.is_set():
            image = turn % len(self._images)
            turn += 1
            sent = time.perf_counter()
            try:
                version, values = infer(client, "model", tensor, self._images[image], output)
            except Exception as error:  # noqa: BLE001 - whatever the client raises is a failure
                self.failures.append(repr(error))
                continue
            taken = time.perf_counter() - sent
            self.answers[number].append(Answer(sent, taken, version, image, values))


def variant(content: bytes, seed: int) -> bytes:
    """Return the model with every float weight moved by about a thousandth."""
    model, draw = Model.from_bytes(content), np.random.default_rng(seed)
    for index in range(len(model.tensors)):
        values = model.constant(index)
        if values is not None and values.dtype == np.float32 and values.size > 16:
            moved = values * (1 + draw.normal(0, 1e-3, values.shape)).astype(np.float32)
            model.tensors[index].buffer = model.add_buffer(moved)
    return model.to_bytes()


def wrong_answers(daemon: Daemon, answers: Sequence[Answer], images: np.ndarray) -> int:
    """Count answers that the version they name would not have given."""
    wrong = 0
    for version in sorted({answer.version for answer in answers}):
        bundle = Bundle.open(daemon.root / "state/bundles/model" / version)
        name = "float.tflite" if bundle.manifest.engine == "float" else "int8.tflite"
        runner = Runner(bundle.read(name))
        tensor = runner.inputs[0].name
        expected = [next(iter(runner.run({tensor: image}).values())) for image in images]
        for answer in answers:
            if answer.version == version:
                wrong += not np.allclose(answer.output, expected[answer.image], atol=1e-5)
    return wrong


def percentile_ms(answers: Sequence[Answer], share: float) -> float:
    return float(np.percentile([a.seconds for a in answers], share)) * 1e3 if answers else 0.0


def report(answers: Sequence[Answer], drops: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Split the answers into steady ones, those near a switch, and those of drop -> switch."""
    first: dict[str, float] = {}
    for answer in answers:
        first.setdefault(answer.version, answer.sent)
    switches = sorted(first.values())[1:]

    def is_near(answer: Answer) -> bool:
        return any(abs(answer.sent - switch) <= AROUND_S for switch in switches)

    def is_deploying(answer: Answer) -> bool:
        return any(start <= answer.sent <= end for start, end in drops)

    swap = [a for a in answers if is_near(a)]
    deploying = [a for a in answers if is_deploying(a)]
    steady = [a for a in answers if not is_near(a) and not is_deploying(a)]
    versions = Counter(a.version for a in answers)
    return {
        "requests": len(answers),
        "versions": dict(versions),
        "steady": {"p50_ms": percentile_ms(steady, 50), "p99_ms": percentile_ms(steady, 99),
                   "requests": len(steady)},
        "around_swaps": {"p50_ms": percentile_ms(swap, 50), "p99_ms": percentile_ms(swap, 99),
                         "requests": len(swap)},
        "drop_to_swap": {"p50_ms": percentile_ms(deploying, 50),
                         "p99_ms": percentile_ms(deploying, 99), "requests": len(deploying)},
        "p99_ratio": percentile_ms(swap, 99) / max(percentile_ms(steady, 99), 1e-9),
        "p99_ratio_drop_to_swap": percentile_ms(deploying, 99)
        / max(percentile_ms(steady, 99), 1e-9),
    }  # fmt: skip


def run_drops(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    content = options.model.read_bytes()
    runner = Runner(content)
    raw = np.load(options.data)["x"][:IMAGES].astype(np.float32) / options.divide
    images = raw.reshape(-1, *runner.inputs[0].shape)
    daemon = Daemon(root)
    daemon.start()
    clients = Clients(daemon, images, runner, options.clients)
    try:
        shutil.copy(options.model, root / "first.tflite")
        daemon.drop(root / "first.tflite", "model")
        daemon.wait_served("model", "float")
        clients.start()
        drops = []
        version = daemon.wait_served("model", "cpu-int8")["live"]["version"]
        started = time.perf_counter()
        for number in range(options.drops):
            time.sleep(max(0.0, options.seconds / (options.drops + 1)))
            target = root / f"variant{number}.tflite"
            target.write_bytes(variant(content, number))
            begun = time.perf_counter()
            daemon.drop(target, "model")
            model = daemon.wait_served("model", "cpu-int8", not_version=version)
            version = model["live"]["version"]
            drops.append((begun, time.perf_counter()))
        time.sleep(max(0.0, options.seconds - (time.perf_counter() - started)))
        answers = clients.stop()
        result = report(answers, drops)
        result["failed"] = len(clients.failures)
        result["failures"] = clients.failures[:3]
        result["wrong"] = wrong_answers(daemon, answers, images)
        result["drop_to_swap_s"] = [round(end - start, 2) for start, end in drops]
        return result
    finally:
        clients.stop()
        daemon.close()
