"""Connections that clients keep open: one process -> the service manager -> the next process.

A client that is between two requests notices a restart only as a longer answer: what it sends
meanwhile lies in the kernel until the next process reads it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from edgeq.serve.listening import CONNECTION_PREFIX, Listener
from edgeq.systemd import FdStore, PassedSocket

RESERVED = 16  # places in the store that connections leave to listeners


def park(
    connections: Sequence[socket.socket], listeners: Sequence[Listener], store: FdStore
) -> int:
    """Leave connections with the manager and close them here; return how many it has.

    It is given those of the listeners that it holds, as many as there is room for; a client whose
    connection ends here connects again, and waits in the listener's backlog.

    Args:
        connections: plain ones between two requests, from which nothing was read in advance.
    """
    room = max(0, store.maximum - RESERVED)
    parked = 0
    for listener in (each for each in listeners if each.is_held):
        own = [each for each in connections if listener.has_accepted(each)][: room - parked]
        if store.keep(CONNECTION_PREFIX + listener.name, own):
            parked += len(own)
    store.settle()
    for connection in connections:
        connection.close()
    return parked


def adopt(
    passed: Sequence[PassedSocket], listeners: Sequence[Listener], store: FdStore
) -> list[socket.socket]:
    """Return the parked connections of these listeners; others that were parked are closed.

    The manager forgets them all, so that one that ends later ends for its client, too.

    Args:
        listeners: those whose connections are plain.
    """
    parked = [each for each in passed if each.name.startswith(CONNECTION_PREFIX)]
    for name in {each.name for each in parked}:
        store.drop(name)
    adopted: list[socket.socket] = []
    for each in parked:
        if any(_is_of(each, listener) for listener in listeners):
            each.socket.setblocking(False)
            adopted.append(each.socket)
        else:
            each.socket.close()
    return adopted


def _is_of(parked: PassedSocket, listener: Listener) -> bool:
    is_named = parked.name == CONNECTION_PREFIX + listener.name
    return is_named and listener.has_accepted(parked.socket)
