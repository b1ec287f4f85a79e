"""A real daemon on a small filesystem that becomes full, without inodes, or read-only.

Run as a program, in a mount namespace of its own, for it mounts:
`unshare -rm python -m tests.faults.disk_conditions CONDITION FOLDER`; prints JSON, what it saw.
ext4_error needs a loop device, and so a real root: `unshare -m`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from edgeq.errors import DaemonError
from tests.e2e.daemon import Daemon, infer

DATA = Path(__file__).resolve().parents[1] / "data"
SIZE, INODES = "16m", 400
EXT4_BYTES = 24 << 20
OUTPUT = "scores"
WAIT_S = 40.0

Seen = dict[str, Any]


class Box:
    """A daemon whose state folder is a filesystem of its own."""

    def __init__(self, root: Path, *, is_ext4: bool) -> None:
        self.daemon = Daemon(root)
        self.state = root / "state"
        self.image = root / "disk.img"
        self.state.mkdir()
        if is_ext4:
            self.image.write_bytes(bytes(EXT4_BYTES))
            _run("mkfs.ext4", "-q", "-F", str(self.image))
            self.mount_ext4()
        else:
            options = f"size={SIZE},nr_inodes={INODES},mode=755"
            _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.state))
        image = np.load(DATA / "digits_samples.npz")["x"][:1].astype(np.float32)
        self._image = image

    def mount_ext4(self) -> None:
        """Mount it as Debian does its root: an error makes it read-only."""
        _run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.state))

    def fail_ext4(self) -> None:
        """Have the kernel find an error in the filesystem."""
        source = _run("findmnt", "-no", "SOURCE", str(self.state)).strip()
        trigger = Path("/sys/fs/ext4", Path(source).name, "trigger_fs_error")
        trigger.write_text("1")

    def fill(self) -> None:
        """Leave no byte, while there are inodes."""
        with contextlib.suppress(OSError), (self.state / "ballast").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))

    def fill_inodes(self) -> None:
        """Leave no inode, while there is room."""
        (self.state / "many").mkdir()
        with contextlib.suppress(OSError):
            for number in range(INODES):
                (self.state / "many" / str(number)).touch()

    def free(self) -> None:
        (self.state / "ballast").unlink(missing_ok=True)
        for path in (self.state / "many").glob("*"):
            path.unlink()

    def answers(self, name: str = "digits") -> bool:
        """True where a model is served and answers."""
        try:
            infer(self.daemon.triton(), name, "image", self._image, OUTPUT)
        except InferenceServerException:
            return False
        return True

    def faults(self, kind: str) -> float:
        """What the counter says."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.daemon.metrics_port}/metrics", timeout=10
        ) as page:
            text = page.read().decode()
        found = re.search(rf'edgeq_faults_total{{kind="{kind}"}} ([0-9.e+]+)', text)
        assert found is not None
        return float(found[1])

    def wait(self, what: str, is_so: Callable[[], bool]) -> float:
        """Wait for it; returns the seconds that it took."""
        started = time.monotonic()
        while time.monotonic() < started + WAIT_S:
            if is_so():
                return round(time.monotonic() - started, 1)
            time.sleep(0.1)
        raise AssertionError(f"not seen: {what}\n" + "".join(self.daemon.log[-40:]))

    def wait_for_event(self, kind: str) -> float:
        """Wait until the registry has an event of a fault; returns the seconds that it took."""

        def is_there() -> bool:
            try:
                events = self.daemon.status()["events"]
            except DaemonError:  # its socket is in another place until the disk takes it
                return False
            return any(event.get("fields", {}).get("fault") == kind for event in events)

        return self.wait(f"an event of {kind}", is_there)


def refused_while(box: Box, kind: str) -> Seen:
    """A drop comes while the disk takes nothing: it waits, what serves goes on, also anew."""
    daemon = box.daemon
    daemon.drop(DATA / "digits_v2.tflite", "later")
    box.wait(f"{kind} counted", lambda: box.faults(kind) > 0)
    seen: Seen = {"counted": box.faults(kind), "serves": box.answers()}
    seen["is_not_served"] = not box.answers("later")
    seen["quarantined"] = len(list((box.state / "quarantine").glob("*")))
    daemon.stop(signal.SIGKILL)
    seen["start_s"] = round(daemon.start(), 1)
    seen["serves_after_start"] = box.answers()
    box.wait(f"{kind} counted after the start", lambda: box.faults(kind) > 0)
    return seen


def full(box: Box) -> Seen:
    """No space left, then some again; no inode left, then some again."""
    box.fill()
    seen = refused_while(box, "disk_full")
    box.free()
    seen["recovers_s"] = box.wait("the drop is served", lambda: box.answers("later"))
    seen["event_s"] = box.wait_for_event("disk_full")
    box.fill_inodes()
    box.daemon.drop(DATA / "digits_v2.tflite", "last")
    box.wait("out_of_inodes counted", lambda: box.faults("out_of_inodes") > 0)
    seen["serves"] &= box.answers() and not box.answers("last")
    box.free()
    seen["recovers_from_inodes_s"] = box.wait("it is served", lambda: box.answers("last"))
    seen["inodes_event_s"] = box.wait_for_event("out_of_inodes")
    return seen


def read_only(box: Box) -> Seen:
    """Mounted read-only at the start, as after an error; then written to again."""
    daemon = box.daemon
    daemon.stop(signal.SIGKILL)  # which leaves commits in the registry's log only
    _run("mount", "-o", "remount,ro", str(box.state))
    seen: Seen = {"start_s": round(daemon.start(), 1), "serves": box.answers()}
    daemon.drop(DATA / "digits_v2.tflite", "later")
    box.wait("read_only counted", lambda: box.faults("read_only") > 0)
    seen["counted"] = box.faults("read_only")
    seen["is_not_served"] = not box.answers("later")
    _run("mount", "-o", "remount,rw", str(box.state))
    seen["recovers_s"] = box.wait("the drop is served", lambda: box.answers("later"))
    seen["event_s"] = box.wait_for_event("read_only")
    seen["quarantined"] = len(list((box.state / "quarantine").glob("*")))
    seen["serves_after_start"] = box.answers()
    return seen


def ext4_error(box: Box) -> Seen:
    """The kernel finds an error under a daemon at work: read-only until it is mounted anew."""
    daemon = box.daemon
    box.fail_ext4()
    seen = refused_while(box, "read_only")
    daemon.stop(signal.SIGKILL)
    _run("umount", str(box.state))
    _run("e2fsck", "-fy", str(box.image), codes=(0, 1))
    box.mount_ext4()
    daemon.start()
    seen["recovers_s"] = box.wait("the drop is served", lambda: box.answers("later"))
    seen["serves_after_start"] &= box.answers()
    return seen


def _run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in codes, f"{command}: {done.stderr}"
    return done.stdout


CONDITIONS: dict[str, Callable[[Box], Seen]] = {
    "full": full,
    "read_only": read_only,
    "ext4_error": ext4_error,
}


@contextlib.contextmanager
def served(root: Path, *, is_ext4: bool) -> Iterator[Box]:
    """Yield a box that serves one model, and end it."""
    box = Box(root, is_ext4=is_ext4)
    try:
        box.daemon.start()
        box.daemon.drop(DATA / "digits.tflite", "digits")
        box.wait("digits served", box.answers)
        yield box
    finally:
        box.daemon.close()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("condition", choices=CONDITIONS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with served(options.folder, is_ext4=options.condition == "ext4_error") as box:
        json.dump(CONDITIONS[options.condition](box), sys.stdout)


if __name__ == "__main__":
    main()
