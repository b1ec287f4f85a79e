"""A box without a descriptor left: clients wait, it is counted, and they are served afterwards."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon, infer

SPARE = 3  # descriptors that the daemon may still open
CLIENTS = 12


def faults(daemon: Daemon, kind: str) -> float:
    url = f"http://127.0.0.1:{daemon.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as page:
        found = re.search(rf'edgeq_faults_total{{kind="{kind}"}} (\S+)', page.read().decode())
    assert found is not None
    return float(found[1])


@pytest.mark.slow
def test_a_daemon_without_descriptors_serves_again_when_there_are_some(
    serving: Daemon, images: np.ndarray
):
    assert serving.process is not None
    pid = serving.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    mark = len(serving.log)
    with contextlib.ExitStack() as clients:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + SPARE, hard))
        for _ in range(CLIENTS):
            address = ("127.0.0.1", serving.http_port)
            clients.enter_context(socket.create_connection(address, timeout=20))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if any("out_of_descriptors" in line for line in serving.log[mark:]):
                break
            time.sleep(0.05)
        time.sleep(2.5)  # two more of asyncio's attempts, which are no news
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    infer(serving.triton(), "digits", "image", images[:1], "scores")
    assert faults(serving, "out_of_descriptors") >= 1
    told = [line for line in serving.log[mark:] if "out_of_descriptors" in line]
    assert len(told) == 1
    assert "LimitNOFILE" in told[0]
    assert not [line for line in serving.log[mark:] if "Traceback" in line]
