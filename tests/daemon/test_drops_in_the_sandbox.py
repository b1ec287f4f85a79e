"""What the daemon makes of a box that confines the child which opens a drop, or cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.errors import DropError
from edgeq.intake import admit
from edgeq.intake.child import Probe, ProbeLimits
from edgeq.intake.sandbox import PURPOSES, Measure
from tests.daemon.conftest import House
from tests.daemon.test_drops import configure, scan

UNKNOWN = "edgeq has no list of system calls for riscv64"


@pytest.fixture
def box(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A box on which these measures are missing."""
    real: Callable[[Path, ProbeLimits], Probe] = admit.run_probe

    def make(**missing: str) -> None:
        def probe(path: Path, limits: ProbeLimits) -> Probe:
            if missing and limits.must_confine:
                raise DropError("it cannot be confined", stage="sandbox", hint="See doctor.")
            measures = tuple(Measure(name, missing.get(name, "")) for name in PURPOSES)
            return replace(real(path, ProbeLimits()), sandbox=measures)

        monkeypatch.setattr(admit, "run_probe", probe)

    return make


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "cannot confine" in record.getMessage()]


def test_a_box_that_cannot_confine_is_told_of_with_every_drop(
    house: House, digits: Path, box: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    box(seccomp=UNKNOWN)
    house.drop(digits / "digits.tflite")
    (warning,) = _warnings(caplog)
    assert warning.reason == f"seccomp is not in force ({UNKNOWN})"  # type: ignore[attr-defined]
    assert "security.public_keys" in warning.hint  # type: ignore[attr-defined]


def test_a_second_wall_that_is_missing_is_no_cause_for_warning(
    house: House, digits: Path, box: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    box(landlock="the kernel has none")
    house.drop(digits / "digits.tflite")
    assert _warnings(caplog) == []


def test_a_required_sandbox_refuses_drops_and_takes_the_same_bytes_once_it_is_there(
    house: House, digits: Path, box: Callable[..., None]
) -> None:
    configure(house, "security", sandbox="required")
    box(seccomp=UNKNOWN)
    (house.context.config.models_dir / "digits.tflite").write_bytes(
        (digits / "digits.tflite").read_bytes()
    )
    (entry,) = scan(house)
    assert (entry.name, entry.stage) == ("digits", "sandbox")
    assert house.deployer.deployments == {}
    box()
    house.drop(digits / "digits.tflite")
    assert house.deployer.deployments["digits"].version == "1"
