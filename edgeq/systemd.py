"""The service manager: states sent to it, sockets taken from it and left with it.

Sources: sd_notify(3), sd_listen_fds(3) and, for how a client knows that the manager has read what
it was sent, sd_notify_barrier(3). RELOADING=1 and MONOTONIC_USEC travel in one datagram, as
systemd >= 253 demands for `Type=notify-reload` and older versions accept.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeq.errors import EdgeqError

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
STORE_MAXIMUM = 512  # FileDescriptorStoreMax= of systemd/edgeq.service
MESSAGE_DESCRIPTORS = 64  # the kernel takes 253 in one message
SEND_TIMEOUT_S = 5.0  # a manager that hangs must not take the service with it


class Notifier:
    """Sends states to the service manager; silent where there is none."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> Notifier:
        """Take the socket from NOTIFY_SOCKET, and keep children from inheriting it."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    @property
    def has_manager(self) -> bool:
        """Whether a service manager asked for states."""
        return bool(self._address)

    def notify(self, **states: str | int) -> None:
        """Send the given states in one datagram, e.g. `notify(READY=1, STATUS="serving")`."""
        self.send(states)

    def send(self, states: dict[str, str | int], descriptors: Sequence[int] = ()) -> bool:
        """Send states and descriptors in one datagram; return whether the manager has it."""
        if not self._address:
            return False
        lines = [f"{key}={value}".replace("\n", " ") for key, value in states.items()]
        message = "\n".join(lines).encode()
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(SEND_TIMEOUT_S)
            try:
                sock.connect(address)  # send_fds ignores its own address on CPython 3.11
                socket.send_fds(sock, [message], list(descriptors))
            except OSError:
                return False  # a manager that went away must not take the service with it
        return True

    def reloading(self) -> None:
        """Announce a reload; READY=1 must follow."""
        self.notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


class FdStore:
    """Sockets that the service manager holds while the service restarts.

    It hands them to the next process (`take_passed_sockets`), and closes them when the service is
    stopped for good. Without a manager nothing is kept.
    """

    def __init__(self, notifier: Notifier, maximum: int = STORE_MAXIMUM) -> None:
        self.maximum = maximum
        self._notifier = notifier

    @classmethod
    def from_environment(cls, notifier: Notifier) -> FdStore:
        """Take the limit from FDSTORE, which systemd >= 254 sets; older ones do not tell."""
        limit = os.environ.pop("FDSTORE", "")
        return cls(notifier, int(limit) if limit.isdigit() else STORE_MAXIMUM)

    @property
    def has_manager(self) -> bool:
        """Whether there is anyone to leave sockets with."""
        return self._notifier.has_manager

    def keep(self, name: str, sockets: Iterable[socket.socket], *, polled: bool = True) -> bool:
        """Leave duplicates of sockets with the manager; return whether it was told of all.

        Args:
            name: ASCII without colons or control characters; many may share one.
            sockets: at most `maximum` in all; the manager drops what is beyond.
            polled: have the manager drop those whose peer hangs up.
        """
        states: dict[str, str | int] = {"FDSTORE": 1, "FDNAME": name}
        if not polled:
            states["FDPOLL"] = 0
        descriptors = [sock.fileno() for sock in sockets]
        return all(
            self._notifier.send(states, descriptors[start : start + MESSAGE_DESCRIPTORS])
            for start in range(0, len(descriptors), MESSAGE_DESCRIPTORS)
        )

    def drop(self, name: str) -> None:
        """Have the manager close everything that it keeps under a name."""
        self._notifier.notify(FDSTOREREMOVE=1, FDNAME=name)

    def settle(self, timeout_s: float = SEND_TIMEOUT_S) -> bool:
        """Wait until the manager has done all of the above; return whether it has.

        A process that ends before would leave messages that nobody can attribute to it.
        """
        reader, writer = os.pipe()
        try:
            is_sent = self._notifier.send({"BARRIER": 1}, [writer])
        finally:
            os.close(writer)
        with open(reader, "rb", buffering=0) as pipe:
            if not is_sent:
                return False
            poll = select.poll()
            poll.register(pipe, 0)  # only the hang-up, once the manager closes its end
            return bool(poll.poll(timeout_s * 1000))


@dataclass(frozen=True)
class PassedSocket:
    """A socket from the service manager: of a .socket unit, or kept from the last process."""

    name: str
    socket: socket.socket


def take_passed_sockets() -> list[PassedSocket]:
    """Return what the manager passed to this process; the variables are gone afterwards.

    Children do not inherit the descriptors.

    Raises:
        EdgeqError: a descriptor is not open, or is no socket.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    addressee = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    os.environ.pop("LISTEN_PIDFDID", None)
    if not count.isdigit() or addressee != str(os.getpid()):
        return []
    names += ["unknown"] * (int(count) - len(names))
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    return [_passed(name, number) for name, number in zip(names, descriptors, strict=False)]


def _passed(name: str, descriptor: int) -> PassedSocket:
    try:
        os.set_inheritable(descriptor, False)
        return PassedSocket(name, socket.socket(fileno=descriptor))
    except OSError as error:
        raise EdgeqError(
            f"descriptor {descriptor} ({name}) from the service manager is no socket: "
            f"{error.strerror}",
            hint="Pass edgeq nothing but the sockets of edgeq.socket.",
        ) from error


def watchdog_interval_s() -> float | None:
    """Return how often to send WATCHDOG=1 (half the limit), or None where none is asked for."""
    limit_us = os.environ.get("WATCHDOG_USEC")
    addressee = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us or not limit_us.isdigit() or addressee != str(os.getpid()):
        return None
    return int(limit_us) / 2e6 or None  # 0 is off
