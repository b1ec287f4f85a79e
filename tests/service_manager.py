"""What systemd does with a service's notify socket and its file descriptor store, in a thread."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.systemd import PassedSocket

HIGH = 300  # above where a child's passed descriptors end
LAUNCHER = """
import os, sys
given = [int(number) for number in sys.argv[1].split(",") if number]
for number, descriptor in enumerate(given, 3):
    os.dup2(descriptor, number)
    os.close(descriptor)
if given:
    os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=str(os.getpid()))
    os.environ["LISTEN_FDNAMES"] = sys.argv[2]
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True)
class Stored:
    """One descriptor of the store."""

    name: str
    descriptor: int
    is_polled: bool

    @property
    def has_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, 0)
        return self.is_polled and bool(poll.poll(0))


class ServiceManager:
    """Holds what a service stores, and passes it on to the processes that it starts.

    Args:
        path: where its notify socket goes.
        maximum: FileDescriptorStoreMax=.
        units: sockets of .socket units with their names.
    """

    def __init__(
        self, path: Path, *, maximum: int = 512, units: Sequence[tuple[str, socket.socket]] = ()
    ) -> None:
        self.address = str(path)
        self.maximum = maximum
        self.units = list(units)
        self.states: list[dict[str, str]] = []
        self._stored: list[Stored] = []
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    # ---- what the service sends

    def _receive(self) -> None:
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 253)
            if not message:
                return
            states = dict(line.split("=", 1) for line in message.decode().split("\n"))
            with self._lock:
                self._take(states, descriptors)

    def _take(self, states: dict[str, str], descriptors: list[int]) -> None:
        self.states.append(states)
        name = states.get("FDNAME", "stored")
        if states.get("FDSTORE") == "1":
            while descriptors and len(self._stored) < self.maximum:
                is_polled = states.get("FDPOLL") != "0"
                self._stored.append(Stored(name, descriptors.pop(0), is_polled))
        elif states.get("FDSTOREREMOVE") == "1":
            self._release(lambda each: each.name == name)
        for descriptor in descriptors:  # BARRIER=1, and what there is no room for
            os.close(descriptor)

    def _release(self, is_to_go: Callable[[Stored], bool]) -> None:
        for each in [each for each in self._stored if is_to_go(each)]:
            os.close(each.descriptor)
            self._stored.remove(each)

    @property
    def stored(self) -> list[str]:
        """The names in the store, without those whose peers have hung up."""
        with self._lock:
            self._release(lambda each: each.has_hung_up)
            return [each.name for each in self._stored]

    def wait_for(self, key: str, value: str, within_s: float = 10.0) -> None:
        """Wait for a state."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if any(states.get(key) == value for states in list(self.states)):
                return
            time.sleep(0.005)
        raise AssertionError(f"{key}={value} was not sent: {self.states}")

    # ---- what the manager does

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process that finds the units' sockets and the store's from 3 on, in order."""
        names = [*[name for name, _ in self.units], *self.stored]
        with self._lock:
            kept = [sock.fileno() for _, sock in self.units]
            kept += [each.descriptor for each in self._stored]
            high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, HIGH) for number in kept]
        environment = {**options.pop("env", os.environ), "NOTIFY_SOCKET": self.address}
        numbers = ",".join(map(str, high))
        try:
            return subprocess.Popen(
                [sys.executable, "-S", "-c", LAUNCHER, numbers, ":".join(names), *command],
                pass_fds=high,
                env=environment,
                text=True,
                **options,
            )
        finally:
            for number in high:
                os.close(number)

    def passed(self) -> list[PassedSocket]:
        """What the next process would find."""
        names = [*[name for name, _ in self.units], *self.stored]
        with self._lock:
            kept = [sock.fileno() for _, sock in self.units]
            kept += [each.descriptor for each in self._stored]
            sockets = [socket.socket(fileno=os.dup(number)) for number in kept]
        return [PassedSocket(*each) for each in zip(names, sockets, strict=True)]

    def clear(self) -> None:
        """Close the store, as systemd does once a unit is stopped for good."""
        with self._lock:
            self._release(lambda _: True)

    def close(self) -> None:
        """End; also what is stored."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self.address)
        self._thread.join(10)
        self._socket.close()
        self.clear()
