"""The command line of `tools/soak.py`: a box, clients, a plan, and what is found at the end."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeq.errors import EdgeqError
from tools.serve_bench.processes import end_on_terminate
from tools.soaking.actions import Act, Actions
from tools.soaking.box import DISK_BYTES, Box, BoxError
from tools.soaking.clients import Client, GrpcWay, HttpWay, Way
from tools.soaking.journal import EVIDENCE_SHOWN, Journal
from tools.soaking.judge import figures_of, judge_folders, judge_held, judge_log, judge_versions
from tools.soaking.material import Material
from tools.soaking.monitor import Monitor
from tools.soaking.plan import CLASSIFIERS, MODELS, PLAIN, STEPS, Step, ends_of, plan
from tools.soaking.reference import Reference
from tools.soaking.report import text_of
from tools.soaking.small_disk import SHARED_MEMORY, SmallDisk
from tools.soaking.trouble import Trouble

SERVED_LIMIT_S = 60.0
LEAST_WAITS = 0.3  # of the usual, in a soak without pauses
LAST_LIMIT_S = 90.0  # for the last good drop of each model to serve


class Soak:
    """One run, from the first start to the last stop."""

    def __init__(self, options: argparse.Namespace, root: Path, disk: SmallDisk | None) -> None:
        self._options, self.journal = options, Journal()
        self.box = Box(root, self.journal, disk)
        self._material = Material()
        self._reference = Reference(self.box.state, self._material, self.journal)
        self.clients = self._make_clients()
        self._actions = Actions(self.box, self._material, self.clients, self.journal)
        waits = max(LEAST_WAITS, min(1.0, options.pace))
        self._trouble = Trouble(self.box, self._actions, self.journal, waits)
        self.monitor = Monitor(self.box, self.journal)
        self.steps = 0

    def _make_clients(self) -> list[Client]:
        box, reference = self.box, self._reference
        tcp = ("127.0.0.1", box.http)

        def http(address: tuple[str, int] | Path, form: str) -> Callable[[], Way]:
            return lambda: HttpWay(address, reference, form)

        def client(
            name: str, way: Callable[[], Way], models: tuple[str, ...], per: int = 1 << 30
        ) -> Client:
            return Client(name, way, models, reference, self.journal, per_connection=per)

        return [
            client("TCP, kept", http(tcp, "binary"), MODELS),
            client("TCP, JSON, new", http(tcp, "json"), CLASSIFIERS, 1),
            client("Unix", http(box.socket, "binary"), (*MODELS[1:], MODELS[0])),
            client("shared memory", http(box.socket, "shared"), CLASSIFIERS),
            client("gRPC", lambda: GrpcWay(box.grpc, reference), (PLAIN, *CLASSIFIERS)),
        ]

    # ---- the run

    def run(self) -> dict[str, Any]:
        """Soak; return all figures."""
        try:
            self._begin()
            self._act()
            self._settle()
        except BoxError as error:
            self.journal.violate("the daemon is gone for good", str(error)[-EVIDENCE_SHOWN:])
        finally:
            self._end_clients()
        if self.box.pid:
            self._last_look()
        return self._told()

    def _begin(self) -> None:
        """Start, and wait until every model serves; then let the clients loose."""
        self._trouble.start_s.append(self.box.start())
        for name in MODELS:
            self.box.drop(self._material.base(name), name)
        self._wait("every model serves", self._all_serve, SERVED_LIMIT_S)
        self.monitor.look()
        self.monitor.start()
        for client in self.clients:
            client.start()

    def _all_serve(self) -> bool:
        models = self.box.client.status()["models"]
        return all(models.get(name, {}).get("live") for name in MODELS)

    def _wait(self, what: str, is_so: Callable[[], bool], within_s: float) -> None:
        until = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > until:
                raise BoxError(f"not seen within {within_s:g} s: {what}")
            time.sleep(0.1)

    def _act(self) -> None:
        """Perform the plan until the time is over, its first round at least."""
        journal, acts = self.journal, {**self._actions.table(), **self._trouble.table()}
        has_disk = self.box.disk is not None
        ends = ends_of(is_brief=self._options.brief, has_disk=has_disk)
        for step in plan(self._options.seed, ends):
            is_over = time.monotonic() - journal.begun >= self._options.seconds
            if is_over and step.number >= len(STEPS) + len(ends):
                break
            journal.step = step.number
            if act := acts.get(step.kind):
                journal.count(journal.actions, step.kind)
                self._perform(step, act)
            self.steps += 1
            time.sleep(0.0 if is_over else step.random().uniform(0, 2 * self._options.pace))

    def _perform(self, step: Step, act: Act) -> None:
        begun, kind = time.monotonic(), step.kind
        try:
            act(step)
        except (EdgeqError, OSError) as error:
            self.journal.violate(f"{kind} fails", repr(error))
        if self._options.verbose:
            taken = time.monotonic() - begun
            print(f"{begun - self.journal.begun:7.1f} s  {kind} ({taken:.1f} s)", file=sys.stderr)

    def _settle(self) -> None:
        """Without trouble, the last good drop of each model comes to serve."""
        self._actions.close()
        self._actions.resume()
        self._actions.unpin()
        self.box.write_config()
        wanted = {}
        for number, name in enumerate(MODELS):
            content = self._material.variant(name, -self._options.seed - number & 0xFFFFFFFF)
            self.box.drop(content, name)
            wanted[name] = hashlib.sha256(content).hexdigest()
        until = time.monotonic() + LAST_LIMIT_S
        while missing := self._missing(wanted):
            if time.monotonic() > until:
                self.journal.violate("the last good drop does not serve", missing)
                return
            time.sleep(0.2)

    def _missing(self, wanted: dict[str, str]) -> dict[str, Any]:
        """Return the models whose last drop neither serves nor served and was taken back."""
        models = self.box.client.status()["models"]
        missing: dict[str, Any] = {}
        for name, digest in wanted.items():
            model = models.get(name, {})
            tried = {v["state"] for v in model.get("versions", ()) if v["model_sha256"] == digest}
            if not tried & {"committed", "rolled_back"}:
                missing[name] = {k: model.get(k) for k in ("state", "reason", "live", "progress")}
        return missing

    def _end_clients(self) -> None:
        for client in self.clients:
            if client.requests:
                client.stop()

    # ---- the end

    def _last_look(self) -> None:
        judge_versions(self.clients, self.box, self.journal)
        time.sleep(1.0)  # the connections' ends are seen
        self.monitor.look()
        self.monitor.stop()
        self.journal.open("down")
        self.box.stop()
        self._trouble.look_at_commits({})
        judge_held(self.monitor, self.journal)
        if self.box.disk is not None and (left := list(SHARED_MEMORY.iterdir())):
            self.journal.violate("shared memory is left", left)

    def _told(self) -> dict[str, Any]:
        journal = self.journal
        left = judge_folders(self.box, journal)
        judge_log(self.box, journal)
        return {
            "seconds": round(time.monotonic() - journal.begun, 1),
            "seed": self._options.seed,
            "steps": self.steps,
            "requests": sum(client.requests for client in self.clients),
            "answers": dict(journal.answers),
            "versions_checked": self._reference.versions,
            "lives": self.box.lives,
            "start_s_max": round(max(self._trouble.start_s, default=0.0), 2),
            "status_s_max": round(self.monitor.slowest_status_s, 2),
            "actions": dict(journal.actions),
            "counts": dict(journal.counts),
            "events": self._trouble.recorded.events,
            "left": left,
            "held": figures_of(self.monitor.held),
            "faults": sorted(self.monitor.faults),
            "violated": dict(journal.violated),
            "violations": [asdict(violation) for violation in journal.violations],
        }


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=120.0, help="for how long; the first round is finished")
    add("--seed", type=int, default=1, help="of the plan and all that is drawn in it")
    add("--pace", type=float, default=1.0, help="mean pause between two steps, seconds")
    add("--brief", action="store_true", help="end the daemon once a round, not in every way")
    add("--json", type=Path, default=None, help="file for all figures")
    add("--keep", type=Path, default=None, help="folder for the daemon's log")
    add("--verbose", action="store_true", help="say each step on stderr")
    return parser


def main(description: str, why_no_disk: str) -> int:
    """Run the command line; 1 where an invariant was violated."""
    options = make_parser(description).parse_args()
    end_on_terminate()
    with tempfile.TemporaryDirectory(prefix="edgeq-soak-") as folder:
        root = Path(folder).resolve()
        (root / "state").mkdir()
        disk = None
        if not why_no_disk:
            try:
                disk = SmallDisk(root / "state", DISK_BYTES)
            except OSError as error:
                why_no_disk = str(error)
        soak = Soak(options, root, disk)
        try:
            told = soak.run()
        finally:
            soak.monitor.stop()
            soak.box.close()
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    (options.keep / "daemon.log").write_bytes(soak.box.log.read_bytes())
            if disk is not None:
                disk.unmount()
    told["disk_pressure"] = why_no_disk or f"a disk of {DISK_BYTES >> 20} MiB"
    print(text_of(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if told["violated"] else 0
