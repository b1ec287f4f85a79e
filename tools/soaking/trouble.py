"""Steps -> what a box meets in the field: power cuts, a full disk, slow and hostile clients."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping

from edgeq.errors import DaemonError
from tools.fuzzing.mutation import mutate
from tools.serve_bench.wire import END, Answer, Connection, binary_request, http_request
from tools.soaking.actions import Act, Actions
from tools.soaking.box import Box, BoxError, Recorded
from tools.soaking.clients import RETRY, TENSORS
from tools.soaking.journal import Journal
from tools.soaking.material import frames
from tools.soaking.plan import MODELS, Step

FULL_S = (1.0, 3.0)  # how long the disk stays full
LEFT_BYTES = (0, 4096, 40_000, 200_000)  # that a full disk still has
CHILD_LIMIT_S = 4.0  # to wait for a build child
SLOW_CLIENTS = 20
BAD_REQUESTS = 150
BAD_LIMIT_S = 10.0  # the daemon's own limits are 2 and 3 s
CROWD = 96  # connections at once, more than a queue's places
ROUNDS = 30
EARLY = (0.0, 0.6)  # seconds after a drop or a build's start
SINCE_KILL = {"committed", "rolled_back"}  # events that tell why another version serves


class Trouble:
    """What a step does, by its kind.

    Args:
        waits: how long trouble lasts, of what it does in a long soak; 0 to 1.
    """

    def __init__(self, box: Box, actions: Actions, journal: Journal, waits: float = 1.0) -> None:
        self._box, self._actions, self._journal = box, actions, journal
        self.recorded = Recorded()
        self.start_s: list[float] = []
        self._waits = waits

    def table(self) -> Mapping[str, Act]:
        """Return what this does, by kind."""
        has_disk = self._box.disk is not None
        full = {
            "full disk": self._full_disk,
            "full disk and drop": self._full_disk_and_drop,
            "kill on a full disk": self._kill_on_a_full_disk,
        }
        return {
            "kill": lambda step: self._kill(),
            "kill in a drop": self._kill_in_a_drop,
            "kill in a build": self._kill_in_a_build,
            "stop": lambda step: self._stop(),
            "kill build": lambda step: self._signal_build(step, signal.SIGKILL),
            "stop build": lambda step: self._signal_build(step, signal.SIGSTOP),
            **(full if has_disk else {}),
            "slow clients": self._slow_clients,
            "bad requests": self._bad_requests,
            "overload": self._overload,
        }

    # ---- the daemon's end

    def _live(self) -> dict[str, int]:
        """Return what the registry says is live, asked of the daemon."""
        found: dict[str, int] = {}
        for name in MODELS:
            with contextlib.suppress(DaemonError):
                if (live := self._box.history(name)["live"]) is not None:
                    found[name] = int(live)
        return found

    def _kill(self) -> None:
        before = self._live()
        with self._down():
            self._box.kill()
            self._journal.count(self._journal.counts, "kills")
            self.look_at_commits(before)
        self._look_at_start()

    def _stop(self) -> None:
        before = self._live()
        with self._down():
            self._box.stop()
            self.look_at_commits(before)
        self._look_at_start()

    @contextlib.contextmanager
    def _down(self) -> Iterator[None]:
        """The daemon is ended within; afterwards it serves again."""
        with self._journal.window("down"), self._box.turn:
            yield
            self.start_s.append(self._start())

    def _start(self) -> float:
        """Start, on a full disk, too; where it does not there, with room."""
        disk = self._box.disk
        try:
            return self._box.start()
        except BoxError as error:
            if disk is None or not disk.is_filled:
                raise
            self._journal.violate("it does not start on a full disk", str(error)[-600:])
            disk.empty()
            return self._box.start()

    def look_at_commits(self, before: Mapping[str, int]) -> None:
        """Hold the registry's file to what was live before, and to every commit that it told of."""
        now = self._box.recorded()
        if lost := self.recorded.committed - now.committed:
            self._journal.violate("a commit is lost", sorted(lost))
        for name, number in self.recorded.newest.items():
            if now.newest.get(name, 0) < number:
                self._journal.violate("a version number goes back", (name, number, now.newest))
        for name, version in before.items():
            if now.live.get(name, 0) < version and (name, version) not in now.rolled_back:
                self._journal.violate("what was live is not", (name, version, now.live.get(name)))
        if bad := self._actions.unknown(now.digests):
            self._journal.violate("a version of a model that nobody dropped as good", sorted(bad))
        self.recorded = now

    def _look_at_start(self) -> None:
        """Hold what serves after a start to what the registry's file said before."""
        since = time.time() - self.start_s[-1] - 0.5
        serving = self._live()
        for name, version in self.recorded.live.items():
            if serving.get(name) == version:
                continue
            told = {e["kind"] for e in self._box.history(name)["events"] if e["time"] >= since}
            if not told & SINCE_KILL:
                self._journal.violate(
                    "another version serves than was committed",
                    f"{name}: {version} before, {serving.get(name)} now; {sorted(told)}",
                )

    def _kill_in_a_drop(self, step: Step) -> None:
        self._actions.good_drop(step)
        time.sleep(0.3 + step.random().uniform(*EARLY))
        self._kill()

    def _kill_in_a_build(self, step: Step) -> None:
        self._find_build(step)
        time.sleep(step.random().uniform(*EARLY) * 2 * self._waits)
        self._kill()

    # ---- builds

    def _find_build(self, step: Step) -> int:
        """Return a running build child, asking for a build where there is none."""
        if not (pid := self._box.build_child()):
            with contextlib.suppress(DaemonError):
                self._box.client.call("recalibrate", name=step.model)
        until = time.monotonic() + CHILD_LIMIT_S
        while not (pid := pid or self._box.build_child()) and time.monotonic() < until:
            time.sleep(0.05)
        return pid

    def _signal_build(self, step: Step, number: signal.Signals) -> None:
        if pid := self._find_build(step):
            with contextlib.suppress(ProcessLookupError):
                time.sleep(step.random().uniform(*EARLY) * self._waits)
                os.kill(pid, number)
                self._journal.count(self._journal.counts, f"build children: {number.name}")

    # ---- the disk

    @contextlib.contextmanager
    def _full(self, step: Step) -> Iterator[None]:
        disk, draw = self._box.disk, step.random()
        assert disk is not None
        with self._journal.window("full disk"):
            try:
                disk.fill(draw.choice(LEFT_BYTES))
                yield
                time.sleep(draw.uniform(*FULL_S) * self._waits)
            finally:
                disk.empty()

    def _full_disk(self, step: Step) -> None:
        with self._full(step):
            self._actions.status_command(step)

    def _full_disk_and_drop(self, step: Step) -> None:
        with self._full(step):
            self._actions.good_drop(step)

    def _kill_on_a_full_disk(self, step: Step) -> None:
        """The daemon is killed, and starts again, while nothing can be written."""
        with self._full(step):
            self._actions.good_drop(step)
            time.sleep(step.random().uniform(*EARLY) * 2 * self._waits)
            self._kill()

    # ---- clients

    def _address(self) -> tuple[str, int]:
        return "127.0.0.1", self._box.http

    def _slow_clients(self, step: Step) -> None:
        """Half a head, half a body, or nothing, and then silence: the limits cut them off."""
        draw, opened = step.random(), list[socket.socket]()
        begun = http_request(f"/v2/models/{step.model}/infer", b" " * 5000)[:-4000]
        for _ in range(SLOW_CLIENTS):
            with contextlib.suppress(OSError):
                one = socket.create_connection(self._address(), 5)
                opened.append(one)
                one.sendall(draw.choice((begun[:40], begun, b"", b"GET /v2")))
        timer = threading.Timer(draw.uniform(1.0, 5.0), _close_all, (opened,))
        timer.start()
        self._actions.remember(timer)

    def _bad_requests(self, step: Step) -> None:
        """Damaged requests, each on a connection of its own; none may be a 500."""
        draw, found = step.random(), Counter[str]()
        corpus = _corpus(step.model)
        for _ in range(BAD_REQUESTS):
            found[self._send_bad(mutate(draw, corpus))] += 1
        for status, number in found.items():
            self._journal.count(self._journal.counts, f"bad requests: {status}", number)

    def _send_bad(self, request: bytes) -> str:
        try:
            with socket.create_connection(self._address(), BAD_LIMIT_S) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
        except TimeoutError:
            self._journal.violate("a bad request is not answered", request[:300])
            return "no answer"
        except OSError:
            return "closed"
        status = answer[9:12].decode(errors="replace")
        if status.startswith("5") and status != "503":
            self._journal.violate(
                f"a bad request is answered {status}", (request[:200], answer[:100])
            )
        return status or "closed"

    def _overload(self, step: Step) -> None:
        """More at once than a queue holds: each is answered, or told when to come back."""
        found, request = Counter[str](), _request(step.model)
        with self._journal.window("overload"):
            crowd = [
                threading.Thread(target=self._crowd, args=(request, found)) for _ in range(CROWD)
            ]
            for thread in crowd:
                thread.start()
            for thread in crowd:
                thread.join()
        for status, number in found.items():
            self._journal.count(self._journal.counts, f"overload: {status}", number)

    def _crowd(self, request: bytes, found: Counter[str]) -> None:
        try:
            connection = Connection(self._address())
            with contextlib.closing(connection):
                for _ in range(ROUNDS):
                    answer = connection.ask(request)
                    self._journal.count(found, str(answer.status))
                    if answer.status == 503:  # and closed
                        self._check_refusal(answer)
                        return
                    if answer.status != 200:
                        evidence = f"{answer.status} {answer.body[:200]!r}"
                        self._journal.violate("overload is answered wrongly", evidence)
        except OSError as error:
            self._journal.violate("overload ends a connection", repr(error))

    def _check_refusal(self, answer: Answer) -> None:
        if RETRY.search(answer.head) is None:
            self._journal.violate("503 without Retry-After", answer.head)


def _request(model: str) -> bytes:
    frame, names = frames(model)["usual"][0], TENSORS[model]
    return binary_request(model, names.given, frame, names.datatype, names.taken)


def _close_all(opened: list[socket.socket]) -> None:
    for one in opened:
        one.close()


def _corpus(model: str) -> list[bytes]:
    """Return requests that bad ones are made of."""
    bodies = (
        b'{"inputs":[{"name":"image","shape":[1,16,16,1],"datatype":"FP32","data":[0]}]}',
        b'{"inputs":[{"name":"image","shape":[1,16,16,1],"datatype":"FP32",'
        b'"parameters":{"binary_data_size":1024}}]}' + bytes(64),
        b'{"inputs":[{"name":"image","shape":[-1],"datatype":"BYTES","data":["a"]}]}',
    )
    infer = [http_request(f"/v2/models/{model}/infer", body) for body in bodies]
    chunked = http_request(f"/v2/models/{model}/infer", headers={"Transfer-Encoding": "chunked"})
    others = [
        http_request(path, method="GET")
        for path in ("/v2", f"/v2/models/{model}", "/v2/health/ready", "/edgeq/status", "/")
    ]
    register = b'{"key":"/nothing","offset":0,"byte_size":64}'
    more = [
        http_request("/v2/systemsharedmemory/region/none/register", register),
        http_request("/v2/repository/index", b"{}"),
        chunked + b"5\r\nhello\r\n0" + END,
    ]
    return [*infer, *others, *more]
