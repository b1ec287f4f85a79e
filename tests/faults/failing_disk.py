"""One scenario -> each of its steps on the disk refused once, and looked at after each refusal.

A step is refused as a full disk, a failing one and a read-only one refuse it: an opened file, the
first write to it, an fsync, a rename, a removal, a new folder, a link, and begin and
commit of every write to the registry.
The failure may be told, as an EdgeqError or a fault of the box; then the daemon's parts go on, the
scanner reports the drop again, and all must come out well. At last it starts anew.

Run as a program: `python -m tests.faults.failing_disk BUNDLE [SCENARIO ...]` prints JSON, for each
{"steps": N, "refusals": N, "failures": {...}}.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.daemon import loop
from edgeq.daemon.faults import kind_of
from edgeq.errors import EdgeqError
from edgeq.intake import admit
from edgeq.intake.child import Probe
from edgeq.registry import database
from tests.daemon.conftest import House, install, open_house
from tests.faults.crash_points import BAD, DATA, Probes, _probes, images, live
from tests.faults.disk import HANDLERS, _path

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EROFS)
SQLITE_WORDS = {
    errno.ENOSPC: "database or disk is full",
    errno.EIO: "disk I/O error",
    errno.EROFS: "attempt to write a readonly database",
}
WRITE = "BEGIN IMMEDIATE"


@dataclass
class FailingDisk:
    """Counts the steps below `root` and refuses one of them.

    Args:
        root: only what lies below counts.
        refuse_at: the step, 1 is the first; 0 counts only.
        number: what the kernel says then.
    """

    root: Path = Path("/nonexistent")
    refuse_at: int = 0
    number: int = errno.ENOSPC
    steps: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin; hooks stay for the rest of this process's life."""
        self._fsync, self._os_open = os.fsync, os.open
        os.fsync = self._synced  # type: ignore[assignment]
        os.open = self._opened  # type: ignore[assignment]
        sys.addaudithook(self._heard)
        database.sqlite3 = _Module(self)  # type: ignore[assignment]

    def stop(self) -> None:
        """Count and refuse no more."""
        self.root = Path("/nonexistent")

    def step(self, what: str) -> bool:
        """Count a step; True where it is to be refused."""
        self.steps.append(what)
        return len(self.steps) == self.refuse_at

    def refusal(self) -> OSError:
        return OSError(self.number, os.strerror(self.number))

    def counts(self, path: Path) -> bool:
        """What the build's child writes is another process's matter."""
        return self.root in (path, *path.parents) and "building" not in path.parts

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in HANDLERS or (event == "open" and not _is_writing(arguments)):
            return
        at = {"os.rename": (1, 3), "os.link": (1, 3), "os.mkdir": (0, 2)}.get(event, (0, 1))
        directory = arguments[at[1]] if event != "open" else -1
        path = _path(arguments[at[0]], directory)
        if self.counts(path) and self.step(f"{event.removeprefix('os.')} {path.name}"):
            raise self.refusal()

    def _synced(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        if self.counts(path) and self.step(f"fsync {path.name}"):
            raise self.refusal()
        self._fsync(descriptor)

    def _opened(self, path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        descriptor = self._os_open(path, flags, *arguments, **named)
        file = Path(os.path.abspath(os.fsdecode(path))) if not isinstance(path, int) else None
        if flags & os.O_CREAT and file and self.counts(file) and self.step(f"write {file.name}"):
            full = self._os_open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(full, descriptor)  # whose every write is refused, with ENOSPC
            os.close(full)
        return descriptor


def _is_writing(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return not isinstance(path, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


class _Module:
    """The sqlite3 module, with connections whose transactions can be refused."""

    def __init__(self, disk: FailingDisk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, path: Path, **options: Any) -> sqlite3.Connection:
        disk = self._disk

        class Connection(sqlite3.Connection):
            is_writing = False

            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                self.is_writing |= statement == WRITE
                is_counted = self.is_writing and statement in (WRITE, "COMMIT")
                if is_counted and disk.counts(Path(path)) and disk.step(statement):
                    raise sqlite3.OperationalError(SQLITE_WORDS[disk.number])
                self.is_writing &= statement not in ("COMMIT", "ROLLBACK")
                return super().execute(statement, *parameters)

        return sqlite3.connect(path, factory=Connection, **options)


# ---- scenarios


@dataclass
class Box:
    """A daemon's parts, asked as the loop asks them: what fails is told, and tried again."""

    house: House
    built: Path
    told: list[str] = field(default_factory=list)

    def attempt(self, what: str, function: Callable[[], Any]) -> bool:
        """Do it; False where it failed as it may. Anything else is raised."""
        try:
            return function() is not False
        except Exception as error:
            if not isinstance(error, EdgeqError) and kind_of(error) is None:
                raise
            self.told.append(f"{what}: {error}")
            return False

    def take(self) -> None:
        """Take what the scanner reports, and again what the box refused."""
        for _ in range(3):
            settled = self.house.scanner.scan().settled
            for candidate in settled:
                if not self.attempt("drop", functools.partial(self.house.deployer.take, candidate)):
                    self.house.scanner.forget(candidate.name)
            if not settled:
                return

    def drop(self, source: Path, name: str = "digits") -> None:
        shutil.copy(source, self.house.context.config.models_dir / f"{name}.tflite")
        self.take()


def drop(box: Box) -> None:
    """A float model comes in and serves; then a newer one."""
    for source in ("digits.tflite", "digits_v2.tflite"):
        box.drop(DATA / source)
        _check_serves(box)


def quarantine(box: Box) -> None:
    """A bad drop is put aside, its file with it."""
    (box.house.context.config.models_dir / "letter.tflite").write_bytes(BAD)
    box.take()
    entries = box.house.context.quarantine.entries()
    assert [entry.name for entry in entries] == ["letter"]
    assert Path(entries[0].file).read_bytes() == BAD


def samples(box: Box) -> None:
    """Captured samples and a person's; what is stored once stays, whatever is refused later."""
    box.drop(DATA / "digits.tflite")
    store = box.house.deployer.deployments["digits"].store
    for image in images()[:4]:
        box.attempt("captured", lambda i=image: store.offer(i))
    for image in images()[2:6]:
        for _ in range(2):
            box.attempt("added", lambda i=image: store.add(i))
    box.attempt("stratum", store.begin_stratum)
    store.flush()
    assert sum(row.origin == "added" for row in store.rows()) == 4
    assert len(list(store)) == len(store.rows())


def build(box: Box) -> None:
    """A build's bundle is installed, goes live, and is rolled back by a person."""
    house = box.house
    box.drop(DATA / "digits.tflite")
    for _ in range(3):
        if live(house) == "1" or house.deployer.deployments["digits"].engine == "float":
            box.attempt("build", lambda: install(house, box.built))
    _check_serves(box)
    assert house.deployer.deployments["digits"].engine == "cpu-int8", box.told
    for _ in range(2):
        if house.deployer.deployments["digits"].engine != "float":
            box.attempt("rollback", lambda: house.deployer.rollback("digits", "as asked"))
    assert house.deployer.deployments["digits"].engine == "float"


SCENARIOS: dict[str, Callable[[Box], None]] = {
    "drop": drop,
    "quarantine": quarantine,
    "samples": samples,
    "build": build,
}


def _check_serves(box: Box) -> None:
    """What the slot serves is what the registry says, and it answers."""
    slot = box.house.deployer.deployments["digits"].slot
    assert slot.live is not None, box.told
    assert slot.live.version == live(box.house), box.told
    slot.submit(images()[0], timeout_s=10.0).result(timeout=20)


def _check_clean(house: House) -> None:
    state = house.context.paths.state
    left = [path for path in state.rglob(".tmp-*") if "building" not in path.parts]
    assert left == [], f"left behind: {left}"
    assert not list(house.context.paths.staging.glob("*")), "left in staging"
    versions = {str(v.version) for v in house.context.registry.versions("digits")}
    kept = {path.name for path in (state / "bundles/digits").glob("[0-9]*")}
    assert kept <= versions, f"bundles of no version: {kept - versions}"


# ---- running


@contextlib.contextmanager
def _opened(folder: Path, probes: Probes) -> Iterator[House]:
    def probe(path: Path, limits: object) -> Probe:
        return probes[path.read_bytes()]

    admit.run_probe = probe  # type: ignore[assignment]
    with open_house(folder) as house:
        loop._make_folders(house.context.config, house.context.paths)
        yield house


def _play(name: str, folder: Path, disk: FailingDisk, built: Path, probes: Probes) -> str:
    """Play with the disk as it is set; returns what was wrong, "" where nothing was."""
    folder.mkdir()
    try:
        with _opened(folder, probes) as house:
            disk.steps, disk.root = [], house.context.paths.state
            SCENARIOS[name](Box(house, built))
            served = live(house)
            disk.stop()
        with _opened(folder, probes) as house:
            house.deployer.restore()
            assert live(house) == served, f"{served} was live, after a start {live(house)}"
            _check_clean(house)
    except BaseException:  # noqa: BLE001 - told with the step
        return traceback.format_exc()
    finally:
        disk.stop()
    return ""


def check_all(
    disk: FailingDisk, name: str, work: Path, built: Path, probes: Probes, *, every: int = 1
) -> dict[str, Any]:
    """Refuse every step, or every n-th, in each way; returns the figures and what was wrong."""
    work.mkdir()
    disk.refuse_at = 0
    if wrong := _play(name, work / "whole", disk, built, probes):
        raise AssertionError(f"the scenario itself fails: {wrong}")
    steps, failures = list(disk.steps), {}
    refusals = [(at, number) for at in range(1, len(steps) + 1) for number in NUMBERS][::every]
    for at, number in refusals:
        disk.refuse_at, disk.number = at, number
        folder = work / f"{at}-{number}"
        if wrong := _play(name, folder, disk, built, probes):
            failures[f"{errno.errorcode[number]} at step {at}, {steps[at - 1]}"] = wrong
        shutil.rmtree(folder)
    return {"steps": len(steps), "refusals": len(refusals), "failures": failures}


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("built", type=Path, help="a bundle of the digits model")
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; all without")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work, disk = Path(folder), FailingDisk()
        probes = _probes(work)
        disk.watch()
        found = {
            name: check_all(disk, name, work / name, options.built, probes, every=options.every)
            for name in options.scenarios or SCENARIOS
        }
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
