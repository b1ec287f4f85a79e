"""What hangs is seen, told once, and no more is ended for it than must be."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeq.daemon.deployment import Deployment
from edgeq.daemon.heartbeat import Answer
from edgeq.daemon.starts import SafeModeOptions, StartNote, Starts
from edgeq.daemon.supervision import STUCK_S, Duties, Hands, Supervision, count_start
from edgeq.engines.cpu import CpuEngine
from edgeq.swap import Hang
from tests.daemon.conftest import House, install, states

WAIT_S = 20.0


class Manager:
    """A service manager that notes what it hears."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.has_manager = is_there
        self.heard: list[Mapping[str, Any]] = []

    def notify(self, **said: Any) -> None:
        self.heard.append(said)


class Watch:
    """Supervision over a house; the test is the main thread, its clock and the server's loop."""

    def __init__(self, house: House, *, is_managed: bool = True) -> None:
        self.house = house
        self.manager = Manager(is_there=is_managed)
        self.duties = Duties()
        self.asked: list[Answer] = []
        self.replaced: list[tuple[Deployment, Hang]] = []
        self.left = 0
        self.now = time.monotonic()
        hands = Hands(self.asked.append, lambda: None, self.replace, self.leave)
        self.supervision = Supervision(house.context, self.manager, self.duties, hands)

    def replace(self, deployment: Deployment, hang: Hang) -> None:
        self.replaced.append((deployment, hang))

    def leave(self) -> None:
        self.left += 1

    def turn(self) -> None:
        while self.asked:
            self.asked.pop()()

    def look(self, seconds: float = 1.0) -> bool:
        self.now += seconds
        deployments = list(self.house.deployer.deployments.values())
        return self.supervision.look(self.now, deployments)

    @property
    def faults(self) -> dict[str, float]:
        samples = next(iter(self.house.context.metrics.faults.collect())).samples
        return {s.labels["kind"]: s.value for s in samples if s.name.endswith("_total")}


@pytest.fixture
def watch(house: House) -> Watch:
    return Watch(house)


class Gate:
    """Engines of a kind wait in here."""

    def __init__(self) -> None:
        self.kind = ""
        self.may_go = threading.Event()
        self.entered = threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made, answer = Gate(), CpuEngine.infer

    def infer(self: CpuEngine, inputs: Mapping[str, Any]) -> Any:
        if self.kind == made.kind:
            made.entered.set()
            assert made.may_go.wait(WAIT_S)
        return answer(self, inputs)

    monkeypatch.setattr(CpuEngine, "infer", infer)
    yield made
    made.may_go.set()


@pytest.fixture
def hang(house: House, gate: Gate, images: Any, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Have the engine that serves hang, on a worker or on the caller's thread."""
    threads: list[threading.Thread] = []

    def run(*, is_inline: bool) -> None:
        monkeypatch.setattr("edgeq.swap.pool.Pool.is_quicker_than", lambda *_: is_inline)
        deployment = house.deployer.deployments["digits"]
        gate.kind = deployment.engine
        submit = deployment.slot.submit
        threads.append(threading.Thread(target=lambda: submit(images[0]), daemon=True))
        threads[-1].start()
        assert gate.entered.wait(WAIT_S)

    yield run
    gate.may_go.set()
    for thread in threads:
        thread.join(WAIT_S)


# ---- the loop that serves


def test_the_watchdog_hears_only_of_a_loop_that_turns(watch: Watch) -> None:
    assert not watch.look()
    watch.turn()
    assert watch.look()
    assert not any(watch.look() for _ in range(60))


def test_a_late_loop_is_told_once_with_the_stacks_of_all_threads(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        watch.look()
    told = [record.getMessage() for record in caplog.records]
    assert sum("has not answered for" in message for message in told) == 1
    assert any(message.startswith("thread MainThread: ") for message in told)
    watch.turn()
    watch.look()
    assert "answers again" in caplog.text


def test_without_a_watchdog_the_limits_are_those_of_the_unit(watch: Watch, house, monkeypatch):
    assert watch.supervision.limit_s == 30.0
    monkeypatch.setenv("WATCHDOG_USEC", "6000000")
    assert Watch(house).supervision.limit_s == 6.0


# ---- engines


def test_an_engine_on_a_worker_is_given_up_and_replaced(
    watch: Watch, house: House, digits: Path, hang
) -> None:
    house.drop(digits / "digits.tflite")
    hang(is_inline=False)
    for _ in range(12):
        watch.look()
        watch.turn()
    ((deployment, found),) = watch.replaced
    assert (deployment.name, found.version, found.engine) == ("digits", "1", "float")
    assert watch.faults["engine_hung"] == 1
    assert house.context.starts.hung("digits", 1).times == 1
    assert deployment.slot.live is None
    assert not watch.manager.heard


def test_an_engine_on_the_loops_thread_is_noted_and_ends_the_process(
    watch: Watch, house: House, digits: Path, hang
) -> None:
    house.drop(digits / "digits.tflite")
    hang(is_inline=True)
    heard = [watch.look() for _ in range(15)]  # the loop does not turn
    assert not any(heard)
    assert watch.manager.heard == [{"WATCHDOG": "trigger"}]
    assert house.context.starts.hung("digits", 1).times == 1
    watch.turn()
    assert not watch.look()  # whatever it says now


def test_where_nobody_watches_the_process_ends_itself(
    house: House, digits: Path, hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted: list[bool] = []
    monkeypatch.setattr(os, "abort", lambda: aborted.append(True))
    watch = Watch(house, is_managed=False)
    house.drop(digits / "digits.tflite")
    hang(is_inline=True)
    for _ in range(15):
        watch.look()
    assert aborted == [True]


def test_too_many_threads_that_are_left_behind_end_the_process(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.swap.HangWatch.threads_left", 3)
    watch.look()
    watch.look()
    assert watch.manager.heard == [{"WATCHDOG": "trigger"}]


# ---- threads


def test_a_stuck_thread_is_a_fault_told_once_and_no_reason_to_end(
    watch: Watch, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with watch.duties.at("the impossible"):
        watch.look()
        assert house.context.stuck == {}
        watch.look(STUCK_S)
        watch.look()
        (found,) = house.context.stuck.values()
        assert found[0] == "the impossible"
    assert watch.faults["thread_hung"] == 1
    watch.look()
    assert house.context.stuck == {}
    assert not watch.manager.heard


# ---- safe mode


def test_a_start_in_safe_mode_is_told_and_left_when_it_is_over(house: House, watch: Watch) -> None:
    house.context.starts = Starts(None, SafeModeOptions(unclean_starts=1, quiet_s=60.0))
    house.context.starts._note = house.context.starts._note.after_start()
    house.context.starts._read = lambda: house.context.starts._note
    count_start(house.context)
    assert watch.faults["crash_loop"] == 1
    assert house.context.registry.events(1)[0].kind == "safe mode"
    watch.look()
    assert house.context.metrics.safe_mode._value.get() == 1
    watch.look(61.0)
    watch.look()
    assert watch.left == 1


# ---- what serves instead


def serve_int8(house: House, digits: Path, built: Path) -> Deployment:
    """Version 2, as INT8, on probation after version 1."""
    house.drop(digits / "digits.tflite")
    return install(house, built)


@pytest.fixture
def hung(house: House) -> Callable[[str], Hang]:
    def make(kind: str) -> Hang:
        deployment = house.deployer.deployments["digits"]
        run = supervised_run(deployment, kind)
        house.context.starts.note_hung("digits", int(deployment.version), kind)
        return Hang(run, 12.0, 10.0)

    return make


def supervised_run(deployment: Deployment, kind: str) -> Any:
    """A run of the live engine, as if it were of that kind."""
    assert deployment.slot.live is not None
    pool = SimpleNamespace(info=deployment.slot.live)
    instance = SimpleNamespace(engine=SimpleNamespace(kind=kind), at_work=None)
    return SimpleNamespace(slot=deployment.slot, pool=pool, instance=instance, since=0.0)


def events(house: House) -> list[str]:
    return [event.kind for event in house.context.registry.events(50)]


def test_the_version_before_takes_over_and_the_hung_one_is_not_built_again(
    house: House, digits: Path, built: Path, hung
) -> None:
    deployment = serve_int8(house, digits, built)
    house.deployer.failures.replace(deployment, hung("cpu-int8"))
    assert (deployment.version, deployment.engine) == ("1", "float")
    assert states(house) == ["rolled_back", "committed"]
    assert {"engine hung", "rolled_back"} <= set(events(house))
    house.deployer.consider_build(deployment, "samples")
    assert deployment.building is None


def test_the_cpu_stands_in_for_a_gpu_that_hangs(house: House, digits: Path, built, hung) -> None:
    deployment = serve_int8(house, digits, built)
    house.deployer.failures.replace(deployment, hung("cuda-int8"))
    assert (deployment.version, deployment.engine) == ("2", "cpu-int8")
    assert states(house) == ["committed", "retired"]


def test_of_a_pinned_model_the_float_model_stands_in(
    house: House, digits: Path, built: Path, hung
) -> None:
    deployment = serve_int8(house, digits, built)
    house.deployer.pin("digits")
    house.deployer.failures.replace(deployment, hung("cpu-int8"))
    assert (deployment.version, deployment.engine) == ("2", "float")
    assert "hung" in deployment.slot.live.fault


def test_what_nothing_can_replace_is_loaded_again_until_it_hung_too_often(
    house: House, digits: Path, hung
) -> None:
    deployment = house.drop(digits / "digits.tflite")
    house.deployer.failures.replace(deployment, hung("float"))
    assert (deployment.version, deployment.engine, deployment.state) == ("1", "float", "serving")
    for _ in range(2):
        house.context.starts.note_hung("digits", 1, "float")
    house.deployer.restore()
    deployment = house.deployer.deployments["digits"]
    assert (deployment.version, deployment.state) == ("", "failed")
    house.deployer.load("digits")  # a person knows better
    assert house.deployer.deployments["digits"].version == "1"


def test_a_start_does_not_load_what_hung(house: House, digits: Path, built, hung) -> None:
    serve_int8(house, digits, built)
    house.context.starts.note_hung("digits", 2, "cpu-int8")
    house.deployer.restore()
    assert house.deployer.deployments["digits"].version == "1"
    assert states(house) == ["rolled_back", "committed"]


def safe_mode(house: House, unclean: int) -> None:
    starts = house.context.starts
    starts.options = SafeModeOptions(unclean_starts=3)
    starts._read = lambda: StartNote(is_running=True, unclean=unclean - 1)
    starts.begin()


def test_in_safe_mode_nothing_is_built_and_less_and_less_is_loaded(
    house: House, digits: Path, built: Path
) -> None:
    serve_int8(house, digits, built)
    house.context.registry.end_probation("digits")
    for unclean, version, engine in ((3, "2", "cpu-int8"), (5, "2", "float"), (7, "", "")):
        safe_mode(house, unclean)
        house.deployer.restore()
        deployment = house.deployer.deployments["digits"]
        assert (deployment.version, deployment.engine) == (version, engine)
        house.deployer.resume_builds()
        assert deployment.building is None
    house.deployer.failures.leave_safe_mode()
    assert (deployment.version, deployment.engine) == ("2", "cpu-int8")
    assert "safe mode ended" in events(house)


def test_safe_mode_does_not_load_a_version_on_probation(
    house: House, digits: Path, built: Path
) -> None:
    serve_int8(house, digits, built)
    safe_mode(house, 3)
    house.deployer.restore()
    assert house.deployer.deployments["digits"].version == "1"
