"""What another edgeq wrote beside the registry costs itself alone, never the daemon's start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.daemon.starts import Starts
from tests.daemon.conftest import House, open_house


def _note(house: House, table: str, note: object) -> None:
    with house.context.registry._database.transaction() as connection:
        columns = "(name, version, note)" if table == "probations" else "(name, note)"
        values = ("digits", 2, json.dumps(note)) if table == "probations" else (
            "digits", json.dumps(note))  # fmt: skip
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT OR REPLACE INTO {table} {columns} VALUES ({marks})", values)


def _file(name: str, content: bytes) -> Callable[[House], None]:
    def write(house: House) -> None:
        path = house.context.paths.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


NEWER: dict[str, Callable[[House], None]] = {
    "probation without a key": lambda house: _note(house, "probations", {"before": 1}),
    "probation with more keys": lambda house: _note(
        house, "probations",
        {"before": 1, "is_same_interface": True, "deaths": 0, "latency": {"p99": 1.0}},
    ),
    "probation of a list": lambda house: _note(house, "probations", [1]),
    "drift without a key": lambda house: _note(house, "drifts", {"episodes": []}),
    "drift of a list": lambda house: _note(house, "drifts", [1]),
    "drift windows": _file("drift/digits.npz", b"PK\x03\x04 of another edgeq"),
    "sample counter": _file("samples/digits/counter.json", b'{"format": 9, "strata": [1]}'),
    "sample name": _file("samples/digits/streamed-0.zst", b"of another edgeq"),
    "quarantine": _file("quarantine/digits-0/reason.json", b'{"format": 9}'),
    "start note": _file("starts.json", b'{"format": 9, "hung": [{"model": "digits"}]}'),
}  # fmt: skip


@pytest.mark.parametrize("newer", NEWER.values(), ids=NEWER)
def test_the_committed_version_serves_all_the_same(
    house: House, tmp_path: Path, digits: Path, newer: Callable[[House], None]
) -> None:
    house.drop(digits / "digits.tflite")
    house.drop(digits / "digits_v2.tflite")
    newer(house)
    house.deployer.close()
    house.builder.close()
    house.context.registry.close()
    with open_house(tmp_path) as again:
        again.context.starts = Starts(again.context.paths.starts)
        again.context.starts.begin()
        again.deployer.restore()
        again.deployer.resume_builds()
        deployment = again.deployer.deployments["digits"]
        again.deployer.check_probation(deployment)
        assert deployment.version == "2"
