"""Steps -> drops and commands, as people and their scripts send them: good ones, and mistakes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from edgeq.errors import DaemonError
from tools.serve_bench.wire import Answer, Connection, http_request
from tools.soaking.box import MAX_MODEL_BYTES, REPOSITORY, Box
from tools.soaking.clients import Client
from tools.soaking.journal import Journal
from tools.soaking.material import DATA, Material
from tools.soaking.plan import CLASSIFIERS, PLAIN, Step

BAD_NAMES = 6  # that bad drops take turns with
COMMAND_LIMIT_S = 30.0  # on a loaded box; `edgeq status` itself is held to it
DRIFT_S = 20.0
RIGHTLY_REFUSED = "refused by the daemon, with a reason"

Act = Callable[[Step], object]


class Actions:
    """What a step does, by its kind; none of it waits for a build."""

    def __init__(
        self, box: Box, material: Material, clients: list[Client], journal: Journal
    ) -> None:
        self._box, self._material, self._clients, self._journal = box, material, clients, journal
        self._timers: list[threading.Timer] = []

    def table(self) -> Mapping[str, Act]:
        """Return what this does, by kind."""
        bad = ("truncated drop", "random drop", "flipped drop", "empty drop")
        commands = ("rollback", "pin", "recalibrate")
        return {
            "good drop": self.good_drop,
            "plain drop": lambda step: self._drop_variant(PLAIN, step.seed),
            "same drop": lambda step: self._box.drop(self._material.latest[step.model], step.model),
            "replaced drop": self._replaced_drop,
            **dict.fromkeys(bad, self._bad_drop),
            "wrong digest": self._wrong_digest,
            "huge drop": self._huge_drop,
            "pipe": self._pipe,
            "link": self._link,
            "folder": self._folder,
            "odd name": self._odd_name,
            **{kind: self._command(kind) for kind in commands},
            "unpin": lambda step: self.unpin(),
            "unload and load": self._unload_and_load,
            "load by request": self._load_by_request,
            "drift": self._drift,
            "samples": self._samples,
            "prune": lambda step: self._call("samples", name=step.model, action="prune"),
            "retry": self._retry,
            "status command": self.status_command,
            "reload": self._reload,
            "resume": lambda step: self.resume(),
            "wrong reload": self._wrong_reload,
        }

    def close(self) -> None:
        """End what goes on by itself."""
        for timer in self._timers:
            timer.cancel()
            timer.join()
        self._send("usual")

    def unknown(self, digests: Iterable[str]) -> set[str]:
        """Return those of no model that was dropped as a good one."""
        return set(digests) - self._material.good

    def remember(self, timer: threading.Timer) -> None:
        """Have a timer ended with all others."""
        self._timers = [*(t for t in self._timers if t.is_alive()), timer]

    # ---- drops

    def good_drop(self, step: Step) -> None:
        self._drop_variant(step.model, step.seed)

    def _drop_variant(self, name: str, seed: int) -> str:
        content = self._material.variant(name, seed)
        self._box.drop(content, name)
        return hashlib.sha256(content).hexdigest()

    def _replaced_drop(self, step: Step) -> None:
        """Drop, and drop again while the first is admitted or built."""
        self._drop_variant(step.model, step.seed)
        time.sleep(step.random().uniform(0.1, 1.5))
        self._drop_variant(step.model, step.seed ^ 1)

    def _bad_name(self, step: Step) -> str:
        """Return a name without a model, or in one of three times that of one that serves."""
        draw = step.random()
        return step.model if draw.random() < 1 / 3 else f"bad-{draw.randrange(BAD_NAMES)}"

    def _bad_drop(self, step: Step) -> None:
        name = self._bad_name(step)
        content = self._material.damaged(step.model, step.kind, step.random())
        with self._place(name):
            self._box.drop(content, name)

    @contextlib.contextmanager
    def _place(self, name: str) -> Iterator[None]:
        """Make room for a bad drop: what lay there under its name is gone."""
        path = self._box.models / f"{name}.tflite"
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        (self._box.models / f"{name}.yaml").unlink(missing_ok=True)
        yield

    def _wrong_digest(self, step: Step) -> None:
        """Drop a model that one bit was flipped in, beside the digest of the whole one."""
        name = f"bad-{step.random().randrange(BAD_NAMES)}"
        content = self._material.damaged(step.model, step.kind, step.random())
        right = hashlib.sha256(self._material.latest[step.model]).hexdigest()
        with self._place(name):
            (self._box.models / f"{name}.yaml").write_text(f"sha256: {right}\n")
            self._box.drop(content, name)

    def _huge_drop(self, step: Step) -> None:
        name = self._bad_name(step)
        with self._place(name), (self._box.models / f".{name}.part").open("wb") as file:
            file.truncate(MAX_MODEL_BYTES + 1)
        (self._box.models / f".{name}.part").rename(self._box.models / f"{name}.tflite")

    def _pipe(self, step: Step) -> None:
        name = self._bad_name(step)
        with self._place(name):
            os.mkfifo(self._box.models / f"{name}.tflite")

    def _link(self, step: Step) -> None:
        name = self._bad_name(step)
        target = step.random().choice(("/etc/passwd", "/dev/zero", "/nowhere", str(self._box.root)))
        with self._place(name):
            (self._box.models / f"{name}.tflite").symlink_to(target)

    def _folder(self, step: Step) -> None:
        name = f"bad-{step.random().randrange(BAD_NAMES)}"
        with self._place(name):
            (self._box.models / f"{name}.tflite").mkdir()

    def _odd_name(self, step: Step) -> None:
        odd = step.random().choice(("a b", "new\nline", "x" * 240, "-", "ümlaut", "a;rm -rf"))
        (self._box.models / f"{odd}.tflite").write_bytes(b"no model")

    # ---- commands

    def _call(self, command: str, **arguments: Any) -> dict[str, Any] | None:
        """Run an admin command; None where the daemon refuses it, as it may."""
        begun = time.monotonic()
        try:
            return self._box.client.call(command, **arguments)
        except DaemonError as error:
            self._journal.count(self._journal.counts, RIGHTLY_REFUSED)
            if not error.message or "the daemon answered 5" in error.message:
                self._journal.violate("a refusal without a reason", f"{command}: {error.message}")
            if "no daemon answers" in error.message:
                self._journal.violate("a command that nobody answers", f"{command}: {error}")
            return None
        finally:
            if (taken := time.monotonic() - begun) > COMMAND_LIMIT_S:
                self._journal.violate("a slow command", f"{command}: {taken:.1f} s")

    def _command(self, command: str) -> Act:
        return lambda step: self._call(command, name=step.model)

    def resume(self) -> None:
        """End safe mode, where kills have led to it, as a person does."""
        self._call("resume")

    def unpin(self) -> None:
        """Let every model take drops again: one that is pinned for long does nothing else."""
        for name in CLASSIFIERS:
            self._call("unpin", name=name)

    def ask(self, path: str, body: bytes = b"{}") -> Answer:
        connection = Connection(self._box.socket)
        try:
            return connection.ask(http_request(path, body))
        finally:
            connection.close()

    def _unload_and_load(self, step: Step) -> None:
        path = f"/v2/repository/models/{step.model}"
        with self._journal.window(f"unload {step.model}"):
            self._expect(self.ask(f"{path}/unload"), step)
            time.sleep(step.random().uniform(0.1, 1.0))
            self._expect(self.ask(f"{path}/load"), step)

    def _load_by_request(self, step: Step) -> None:
        """Load the version that serves anew, under traffic."""
        self._expect(self.ask(f"/v2/repository/models/{step.model}/load"), step)

    def _expect(self, answer: Answer, step: Step) -> None:
        if answer.status != 200:
            evidence = f"{answer.status} {answer.body[:200]!r}"
            self._journal.violate(f"{step.kind} fails", evidence)

    def _drift(self, step: Step) -> None:
        """Let every camera overexpose for a while."""
        self._send("bright")
        timer = threading.Timer(DRIFT_S, self._send, ("usual",))
        timer.start()
        self.remember(timer)

    def _send(self, kind: str) -> None:
        for client in self._clients:
            client.kinds = dict.fromkeys(client.kinds, kind)

    def _samples(self, step: Step) -> None:
        with contextlib.suppress(DaemonError):  # while nothing serves that they are for
            self._box.client.add_samples(step.model, DATA / "digits_samples.npz")

    def _retry(self, step: Step) -> None:
        listed = self._call("quarantine", action="list")
        if listed and listed["entries"]:
            entry = step.random().choice(listed["entries"])
            action = step.random().choice(("retry", "rm", "show"))
            self._call("quarantine", action=action, id=entry["id"])

    def status_command(self, step: Step) -> None:
        command = [sys.executable, "-m", "edgeq", "status", "--config", str(self._box.config)]
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        try:
            done = subprocess.run(
                command, cwd=self._box.root, env=environ, capture_output=True,
                timeout=COMMAND_LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self._journal.violate("edgeq status hangs", f"{COMMAND_LIMIT_S:g} s")
            return
        if done.returncode or step.model.encode() not in done.stdout:
            self._journal.violate("edgeq status fails", (done.returncode, done.stderr[-300:]))

    # ---- configuration

    def _reload(self, step: Step) -> None:
        draw = step.random()
        self._box.write_config(
            level=draw.choice(("info", "debug")), drift_interval_s=draw.uniform(2.0, 4.0)
        )
        os.kill(self._box.pid, signal.SIGHUP)

    def _wrong_reload(self, step: Step) -> None:
        """Write what is no configuration; what was in force stays so."""
        wrong = step.random().choice(("drift: {windw: 3}\n", "{", "\0", "server: [1, 2]\n"))
        good = self._box.config.read_text()
        self._box.config.write_text(wrong)
        mark = self._box.log.stat().st_size
        os.kill(self._box.pid, signal.SIGHUP)
        until = time.monotonic() + COMMAND_LIMIT_S
        while b"not reloaded" not in self._box.log_since(mark):
            if time.monotonic() > until or not self._box.pid:
                self._journal.violate("a wrong reload without a word", repr(wrong))
                break
            time.sleep(0.02)
        self._box.config.write_text(good)
