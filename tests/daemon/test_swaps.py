"""Many swaps under load leave what they found: memory, descriptors, threads, series, folders."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from edgeq.daemon.publisher import BUNDLES_KEPT
from tests.daemon.conftest import House, install

WARM_UP = 10
SWAPS = 50
CLIENTS = 2


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held(house: House) -> dict[str, int]:
    """What a leak would make more of."""
    bundles = house.context.paths.state / "bundles" / "digits"
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "bundles": len(list(bundles.iterdir())),
        "versions": len(house.context.registry.versions("digits")),
        "series": house.context.metrics.page().count(b'version="'),
    }


def test_fifty_swaps_under_load_lose_no_request_and_hold_nothing(
    house: House, digits: Path, built: Path, images: list[dict[str, np.ndarray]]
) -> None:
    deployment = house.drop(digits / "digits.tflite")
    failures: list[Exception] = []
    answered: set[str] = set()
    is_over = threading.Event()

    def traffic() -> None:
        while not is_over.is_set():
            try:
                future = house.plane.submit("digits", None, images[0], 10.0)
                answered.add(future.result(timeout=10).version)
            except Exception as error:  # noqa: BLE001 - whatever it is
                failures.append(error)
            is_over.wait(0.0005)  # let the swaps have the machine, too

    clients = [threading.Thread(target=traffic) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for _ in range(WARM_UP):
            install(house, built)
        before, resident = held(house), resident_bytes()
        for _ in range(SWAPS):
            install(house, built)
            house.deployer.check_probation(deployment)
        grown = resident_bytes() / resident - 1.0
        after = held(house)
    finally:
        is_over.set()
        for client in clients:
            client.join(20)
    assert not failures
    assert deployment.version == str(1 + WARM_UP + SWAPS)
    assert len(answered) > SWAPS / 2
    assert after["bundles"] == after["versions"] == BUNDLES_KEPT
    assert after["descriptors"] <= before["descriptors"] + 2  # a file that is open just now
    assert after["threads"] <= before["threads"] + 1
    assert after["series"] <= before["series"]
    assert grown < 0.10, f"{grown:.1%} of {resident >> 20} MiB"
