"""A daemon that takes drops only where it can confine the child that first opens them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgeq.intake.syscalls import AUDIT_ARCHITECTURES
from tests.e2e.daemon import Daemon


@pytest.mark.skipif(
    platform.machine() not in AUDIT_ARCHITECTURES, reason="no list of system calls for this machine"
)
def test_a_good_drop_is_served_from_behind_a_required_sandbox(daemon: Daemon, digits: Path):
    daemon.start({"EDGEQ_SECURITY_SANDBOX": "required"})
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    assert daemon.stop() == 0
    log = "".join(daemon.log)
    assert "drop accepted" in log
    assert "cannot confine" not in log
