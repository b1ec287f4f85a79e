from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.config import load
from edgeq.daemon.builder import Builder, BuildJob, BuildOutcome
from edgeq.daemon.capture import Capture
from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context, Deployment, Paths
from edgeq.daemon.plane import Plane
from edgeq.intake import admit
from edgeq.intake.child import Probe, ProbeLimits, run_probe
from edgeq.intake.quarantine import Quarantine
from edgeq.intake.watch import Scanner
from edgeq.observe.metrics import Metrics
from edgeq.registry import Registry

CONFIG = """\
models_dir: models
state_dir: state
samples: {minimum: 20}
swap: {probation: {window_s: 0.5}}
drift: {policy: recalibrate, window: 30, interval_s: 0.001, minimum_interval_s: 0.001}
"""


@dataclass
class House:
    """A daemon's parts without its threads: the test is the deploy thread."""

    context: Context
    builder: Builder
    deployer: Deployer
    ended: queue.Queue[BuildOutcome]
    scanner: Scanner
    plane: Plane

    def drop(self, source: Path, name: str = "digits") -> Deployment:
        """Take a drop in, as the loop would."""
        shutil.copy(source, self.context.config.models_dir / f"{name}.tflite")
        for candidate in self.scanner.scan().settled:
            self.deployer.take(candidate)
        return self.deployer.deployments[name]

    def sidecar(self, text: str, name: str = "digits") -> None:
        """Write a sidecar, and let the deployer read it as the scanner would have it."""
        (self.context.config.models_dir / f"{name}.yaml").write_text(text)
        for candidate in self.scanner.scan().settled:
            self.deployer.take(candidate)

    def ask(self, inputs: list[dict[str, Any]], name: str = "digits") -> None:
        """Have each input answered, one after the other, as the data plane would."""
        for each in inputs:
            self.plane.submit(name, None, each, 5.0).result(timeout=10)

    def see(self, inputs: list[dict[str, Any]], name: str = "digits") -> None:
        """Have each input answered, and looked at as the capture thread would."""
        deployment = self.deployer.deployments[name]
        for each in inputs:
            answer = deployment.slot.submit(each, timeout_s=5.0).result(timeout=10)
            deployment.monitor.see(each, answer.outputs)

    def finish_build(self) -> BuildOutcome:
        """Wait for the child, and hand its outcome to the deployer."""
        outcome = self.ended.get(timeout=60)
        self.deployer.build_ended(outcome)
        return outcome


IMAGES = 60


@pytest.fixture(scope="session")
def images(digits: Path) -> list[dict[str, np.ndarray]]:
    """Inputs of `digits.tflite`."""
    stack = np.load(digits / "digits_samples.npz")["x"][:IMAGES].astype(np.float32)
    return [{"image": image[None]} for image in stack]


def fill(house: House, images: list[dict[str, np.ndarray]], name: str = "digits") -> None:
    """Put samples into a model's store."""
    for image in images:
        house.deployer.deployments[name].store.add(image)


def build_int8(house: House, digits: Path, images: list[dict[str, np.ndarray]]) -> Deployment:
    """Drop the digits model, give it samples, and have it built: version 2 is on probation."""
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    house.deployer.consider_build(deployment, "samples")
    assert house.finish_build().outcome == "succeeded"
    assert deployment.engine == "cpu-int8"
    return deployment


@pytest.fixture(scope="session")
def built(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the digits model, INT8, as a build child leaves it."""
    target = tmp_path_factory.mktemp("built") / "bundle"
    command = [sys.executable, "-m", "edgeq", "build", str(digits / "digits.tflite")]
    command += ["--samples", str(digits), "--out", str(target), "--name", "digits"]
    command += ["--method", "max", "--no-refine", "--backend", "cpu"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def install(house: House, built: Path) -> Deployment:
    """Let a build of the digits model end with what `built` holds."""
    deployment = house.deployer.deployments["digits"]
    job = BuildJob("digits", deployment.model_sha256, "request", ())
    directory = house.context.paths.building / f"done-{time.monotonic_ns()}"
    shutil.copytree(built, directory / "bundle")
    deployment.building = job
    house.deployer.build_ended(BuildOutcome(job, "succeeded", directory, {}, 0.0))
    return deployment


def states(house: House, name: str = "digits") -> list[str]:
    """What the registry says of each version, newest first."""
    return [version.state for version in house.context.registry.versions(name)]


@pytest.fixture(scope="session")
def probes() -> dict[bytes, Probe]:
    """What the child said of each model that was dropped in any test."""
    return {}


@pytest.fixture
def _probed_once(probes: dict[bytes, Probe], monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each model in a real child once, not at each drop: tests/intake has many more."""

    def probe(path: Path, limits: ProbeLimits) -> Probe:
        content = path.read_bytes()
        if content not in probes:
            probes[content] = run_probe(path, limits)
        return probes[content]

    monkeypatch.setattr(admit, "run_probe", probe)


@pytest.fixture
def house(tmp_path: Path, _probed_once: None) -> Iterator[House]:
    with open_house(tmp_path) as made:
        yield made


@contextlib.contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """Open a daemon's parts over a state folder, made where it is missing."""
    (folder / "edgeq.yaml").write_text(CONFIG)
    config = load(folder / "edgeq.yaml", {})
    for directory in (config.models_dir, config.state_dir):
        directory.mkdir(exist_ok=True)
    paths = Paths(config.state_dir)
    registry = Registry(paths.registry)
    metrics = Metrics("0", "test")
    context = Context(config, paths, registry, Quarantine(paths.quarantine), metrics)
    ended: queue.Queue[BuildOutcome] = queue.Queue()
    builder = Builder(paths.building, lambda job, step: None, ended.put)
    deployer = Deployer(context, builder, lambda record: None)
    scanner = Scanner(config.models_dir, 0.0)
    plane = Plane(deployer, Capture(lambda _: None), lambda: 0.0, lambda function: function())
    yield House(context, builder, deployer, ended, scanner, plane)
    builder.close()
    deployer.close()
    registry.close()
