"""One scenario -> ended before each of its steps on the disk, and looked at after each end.

Each step has two: the process is killed, and the power goes. Left out are those that leave the disk
as another one does: a kill after an fsync, and a power cut when nothing can be lost.

Run as a program, for it forks: `python -m tests.faults.crash_points SCENARIO BUNDLE` prints JSON
{"steps": N, "ends": N, "failures": [...]}. No thread runs in the process that forks.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.bundle import Bundle, write_bundle
from edgeq.daemon.loop import _make_folders as make_folders
from edgeq.intake import admit
from edgeq.intake.child import Probe, run_probe
from tests.daemon.conftest import House, install, open_house
from tests.faults.disk import KILLED, Disk

DATA = Path(__file__).resolve().parents[1] / "data"
BAD = b"Dear all, the model is in the other folder.\n"

Probes = dict[bytes, Probe]
Promise = Callable[[str], None]  # told of what is durable from now on
Scenario = Callable[[House, Path, Promise], None]


@functools.lru_cache(maxsize=1)
def images() -> list[dict[str, np.ndarray]]:
    """Thirty inputs of the model."""
    stack = np.load(DATA / "digits_samples.npz")["x"][:30].astype(np.float32)
    return [{"image": image[None]} for image in stack]


def live(house: House) -> str:
    found = house.context.registry.live("digits")
    return str(found.version) if found else "0"


# ---- scenarios


def drop(house: House, _built: Path, promise: Promise) -> None:
    """A float model comes in and serves; then a newer one."""
    for source in ("digits.tflite", "digits_v2.tflite"):
        house.drop(DATA / source)
        promise(f"live {live(house)}")


def quarantine(house: House, _built: Path, promise: Promise) -> None:
    """A bad drop is put aside while a good one serves."""
    house.drop(DATA / "digits.tflite")
    promise(f"live {live(house)}")
    (house.context.config.models_dir / "letter.tflite").write_bytes(BAD)
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)
    promise("quarantined letter")


def samples(house: House, _built: Path, promise: Promise) -> None:
    """A person's samples and captured ones; some of the first are captured ones already."""
    store = house.drop(DATA / "digits.tflite").store
    for image in images()[:6]:
        store.offer(image)
    for image in images()[4:8]:
        store.add(image)
        promise("added")
    store.prune()
    store.flush()


def swap(house: House, built: Path, promise: Promise) -> None:
    """A build ends, its engine goes live, proves itself, and is rolled back by a person."""
    house.drop(DATA / "digits.tflite")
    promise(f"live {live(house)}")
    deployment = install(house, built)
    promise(f"live {live(house)}")
    probation = deployment.probation
    assert probation is not None
    house.deployer.rollback("digits", "as a person asked")
    promise(f"rolled back to {live(house)}")


def replace(house: House, built: Path, promise: Promise) -> None:
    """Over an INT8 engine comes a newer drop: it waits for its build; the model is pinned."""
    house.drop(DATA / "digits.tflite")
    install(house, built)
    promise(f"live {live(house)}")
    house.context.registry.pin("digits")
    promise("pinned")
    house.context.registry.unpin("digits")
    install(house, built)
    promise(f"live {live(house)}")


def bundle(house: House, built: Path, promise: Promise) -> None:
    """A build's child writes its bundle."""
    whole = Bundle.open(built)
    contents = {name: whole.read(name) for name in whole.manifest.files}
    write_bundle(house.context.paths.bundle("digits", 77), contents, whole.manifest)
    promise("bundle 77")


SCENARIOS: dict[str, Scenario] = {
    "bundle": bundle,
    "drop": drop,
    "quarantine": quarantine,
    "samples": samples,
    "swap": swap,
    "replace": replace,
}

# ---- after the death


def recover(house: House, promised: list[str]) -> None:
    """Start again, and hold what is there against what had been promised."""
    house.deployer.restore()
    now = live(house)
    for promise in promised:
        kind, _, value = promise.partition(" ")
        if kind == "live":
            assert (
                int(now) >= int(value)
                or "rolled back" in " ".join(promised)
                or (
                    # a rollback that was under way, of which nobody had been told
                    int(value) > 1 and now == "1"
                )
            ), f"{promise} was promised, live is {now}"
        if kind == "bundle":
            assert house.context.paths.bundle("digits", int(value)).is_dir()
        if kind == "quarantined":
            assert [e.name for e in house.context.quarantine.entries()] == [value]
    _check_serves(house, now)
    _check_samples(house, promised.count("added"))
    _check_clean(house)
    house.drop(DATA / "digits_v2.tflite")  # and the next drop is taken as ever
    _check_serves(house, live(house))
    assert live(house) != "0"


def _check_serves(house: House, version: str) -> None:
    if version == "0":
        return
    folder = house.context.paths.bundle("digits", int(version))
    bundle = Bundle.open(folder)
    slot = house.deployer.deployments["digits"].slot
    assert slot.live is not None, "nothing serves, though a version is live"
    assert (slot.live.version, slot.live.engine) == (version, bundle.manifest.engine)
    answer = slot.submit(images()[0], timeout_s=10.0).result(timeout=20)
    assert np.isfinite(next(iter(answer.outputs.values()))).all()


def _check_samples(house: House, added: int) -> None:
    deployment = house.deployer.deployments.get("digits")
    if deployment is None:
        return
    rows = deployment.store.rows()
    readable = list(deployment.store)
    assert len(readable) == len(rows), "a sample cannot be read"
    assert sum(row.origin == "added" for row in rows) >= added, "an added sample is lost"


def _check_clean(house: House) -> None:
    state = house.context.paths.state
    left = [path for path in state.rglob(".tmp-*") if "building" not in path.parts]
    assert left == [], f"left behind: {left}"
    assert not list(house.context.paths.staging.iterdir()), "left in staging"
    for folder in (state / "bundles").glob("*/*"):
        Bundle.open(folder)  # wholly there, or not at all


# ---- processes


@contextlib.contextmanager
def _opened(folder: Path, probes: Probes) -> Iterator[House]:
    def probe(path: Path, limits: object) -> Probe:
        return probes[path.read_bytes()]

    admit.run_probe = probe
    with open_house(folder) as house:
        make_folders(house.context.config, house.context.paths)
        yield house


def _in_child(work: Callable[[], str]) -> tuple[int, str]:
    """Run in a fork; returns its exit status and what it wrote."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            os.write(writing, work().encode())
            status = 0
        except BaseException:  # noqa: BLE001 - told to the parent
            os.write(writing, traceback.format_exc().encode())
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def _play(folder: Path, scenario: Scenario, disk: Disk, built: Path, probes: Probes) -> str:
    """Play the scenario, to its end or its death; promises are written as they are made."""
    told = os.open(folder / "promised", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def promise(text: str) -> None:
        os.write(told, f"{text}\n".encode())

    with _opened(folder, probes) as house:
        disk.root = house.context.paths.state
        disk.watch()
        scenario(house, built, promise)
        disk.stop()
    return json.dumps([disk.steps, disk.losable])


def _recover(folder: Path, probes: Probes) -> str:
    with _opened(folder, probes) as house:
        recover(house, (folder / "promised").read_text().splitlines())
    return ""


@dataclass(frozen=True)
class Ends:
    """All ends of one scenario."""

    name: str
    work: Path
    built: Path
    probes: Probes

    def steps(self) -> tuple[list[str], list[bool]]:
        """Play to the end; returns what happens on the disk, and whether it could be lost."""
        _, status, said = self._play(0, False)
        if status:
            raise AssertionError(f"the scenario itself fails: {said}")
        steps, losable = json.loads(said)
        return steps, losable

    def check(self, number: int, is_power_cut: bool) -> str:
        """End before a step, start again; returns what was wrong then."""
        folder, status, said = self._play(number, is_power_cut)
        if status != KILLED:
            return f"it did not end ({status}): {said}"
        status, said = _in_child(lambda: _recover(folder, self.probes))
        shutil.rmtree(folder.parent)
        return said if status else ""

    def _play(self, number: int, is_power_cut: bool) -> tuple[Path, int, str]:
        folder = self.work / f"{number}-{is_power_cut}" / "box"
        shadow = folder.with_name("shadow")
        folder.mkdir(parents=True)
        shadow.mkdir()
        disk = Disk(folder, shadow, number, is_power_cut)
        scenario = SCENARIOS[self.name]
        return folder, *_in_child(lambda: _play(folder, scenario, disk, self.built, self.probes))


def check_all(ends: Ends, every: int = 1) -> dict[str, Any]:
    """End a scenario in all ways, or in every n-th; returns the figures and what was wrong."""
    steps, losable = ends.steps()
    ways = [
        (number, is_power_cut)
        for number in range(1, len(steps) + 1)
        for is_power_cut in (False, True)
        if (losable[number - 1] if is_power_cut else not steps[number - 2].startswith("fsync"))
    ]
    failures = {
        f"{'power cut' if cut else 'kill'} before step {number}, {steps[number - 1]}": wrong
        for number, cut in ways[::every]
        if (wrong := ends.check(number, cut))
    }
    return {"steps": len(steps), "ends": len(ways[::every]), "failures": failures}


def _probes(work: Path) -> Probes:
    """Open the models once, in children, as the daemon does."""
    found: Probes = {}
    for name in ("digits.tflite", "digits_v2.tflite"):
        content = (DATA / name).read_bytes()
        (work / name).write_bytes(content)
        found[content] = run_probe(work / name, admit.AdmitOptions().limits)
    return found


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("built", type=Path, help="a bundle of the digits model")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        ends = Ends(options.scenario, work, options.built, _probes(work))
        json.dump(check_all(ends, options.every), sys.stdout)


if __name__ == "__main__":
    main()
