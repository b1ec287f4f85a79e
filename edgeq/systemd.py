"""State changes -> the service manager: the sd_notify protocol over NOTIFY_SOCKET.

Source: sd_notify(3). RELOADING=1 and MONOTONIC_USEC travel in one datagram, as systemd >= 253
demands for `Type=notify-reload` and older versions accept.
"""

from __future__ import annotations

import os
import socket
import time


class Notifier:
    """Sends states to the service manager; silent where there is none."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> Notifier:
        """Take the socket from NOTIFY_SOCKET, and keep children from inheriting it."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def notify(self, **states: str | int) -> None:
        """Send the given states in one datagram, e.g. `notify(READY=1, STATUS="serving")`."""
        if not self._address:
            return
        lines = [f"{key}={value}".replace("\n", " ") for key, value in states.items()]
        message = "\n".join(lines)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.connect(address)
                sock.sendall(message.encode())
            except OSError:
                return  # a manager that went away must not take the service with it

    def reloading(self) -> None:
        """Announce a reload; READY=1 must follow."""
        self.notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def watchdog_interval_s() -> float | None:
    """Return how often to send WATCHDOG=1 (half the limit), or None where none is asked for."""
    limit_us = os.environ.get("WATCHDOG_USEC")
    addressee = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us or not limit_us.isdigit() or addressee != str(os.getpid()):
        return None
    return int(limit_us) / 2e6 or None  # 0 is off
