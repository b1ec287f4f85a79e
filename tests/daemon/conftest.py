from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.config import load
from edgeq.daemon.builder import Builder, BuildOutcome
from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context, Deployment, Paths
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

    def drop(self, source: Path, name: str = "digits") -> Deployment:
        """Take a drop in, as the loop would."""
        shutil.copy(source, self.context.config.models_dir / f"{name}.tflite")
        for candidate in self.scanner.scan().settled:
            self.deployer.take(candidate)
        return self.deployer.deployments[name]

    def finish_build(self) -> BuildOutcome:
        """Wait for the child, and hand its outcome to the deployer."""
        outcome = self.ended.get(timeout=60)
        self.deployer.build_ended(outcome)
        return outcome


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "edgeq.yaml").write_text(CONFIG)
    config = load(tmp_path / "edgeq.yaml", {})
    for folder in (config.models_dir, config.state_dir):
        folder.mkdir()
    paths = Paths(config.state_dir)
    registry = Registry(paths.registry)
    metrics = Metrics("0", "test")
    context = Context(config, paths, registry, Quarantine(paths.quarantine), metrics)
    ended: queue.Queue[BuildOutcome] = queue.Queue()
    builder = Builder(paths.building, lambda job, step: None, ended.put)
    deployer = Deployer(context, builder, lambda record: None)
    scanner = Scanner(config.models_dir, 0.0)
    yield House(context, builder, deployer, ended, scanner)
    builder.close()
    deployer.close()
    registry.close()
