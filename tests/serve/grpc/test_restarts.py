"""Clients that call all the time, over one process's end and the next one's start."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from edgeq.systemd import FdStore
from tests.serve.grpc.conftest import ECHO, tensor
from tests.serve.grpc.test_held_port import client, process
from tests.serve.grpc.test_stream import eventually
from tests.service_manager import ServiceManager

RESTARTS = 4


class Load:
    """Four clients; nothing is tried twice."""

    def __init__(self, port: int) -> None:
        self.failures: list[str] = []
        self.answers = [0] * 4
        self._has_ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(port, number)) for number in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, number: int) -> None:
        given: triton.InferInput = tensor("x", ECHO)
        with client(port) as mine:
            while not self._has_ended.is_set():
                try:
                    mine.infer("echo", [given], client_timeout=20)
                    self.answers[number] += 1
                except InferenceServerException as error:
                    self.failures.append(str(error))

    def wait(self, answers: int = 10) -> None:
        """Wait until each client has got as many more."""
        before = list(self.answers)
        eventually(lambda: all(n >= b + answers for n, b in zip(self.answers, before, strict=True)))

    def end(self) -> None:
        self._has_ended.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def loads() -> Iterator[list[Load]]:
    made: list[Load] = []
    yield made
    for each in made:
        each.end()


def test_restarts_under_load_fail_no_call(
    manager: ServiceManager, store: FdStore, loads: list[Load]
) -> None:
    with process(manager, store) as first:
        loads.append(Load(first.port))
        loads[0].wait()
    for number in range(RESTARTS):
        with process(manager, store):
            loads[0].wait()
            if number == RESTARTS - 1:
                loads[0].end()
    assert loads[0].failures == []
