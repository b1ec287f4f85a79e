"""What holds for an engine on a GPU that works; `test_engine` runs each in a process of its own."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from edgeq.engines.cpu import CpuEngine
from edgeq.engines.cuda.engine import CudaEngine
from edgeq.engines.cuda.gpu.context import shared_gpu
from edgeq.engines.cuda.gpu.loaded import load
from edgeq.engines.cuda.lowering import partition
from edgeq.engines.cuda.tuning.timing import gpu_timer, time_each
from edgeq.errors import EngineError, InvalidRequestError
from tests.engines.cuda.gpu_kit import Arrays, Kit, OwnControl, run_together, same

KEPT: list[CudaEngine] = []  # until the interpreter ends


def gives_the_cpu_engine_s_bytes(kit: Kit, control: OwnControl) -> None:
    before = control.count("graph_launches")
    with contextlib.closing(kit.engine()) as engine:
        assert (engine.kind, engine.fault) == ("cuda-int8", "")
        with contextlib.closing(CpuEngine(kit.content, "cpu-int8", threads=1)) as cpu:
            assert (engine.inputs, engine.outputs) == (cpu.inputs, cpu.outputs)
        assert engine.device_bytes > 0
        kit.check(engine)
        launched = control.count("graph_launches") - before
        assert launched == len(kit.inputs) * len(kit.gpu_sections)
    assert control.alive() == {}, control.alive()


def runs_parts_on_the_cpu(kit: Kit, control: OwnControl) -> None:
    partition.SMALL_ELEMENTS = 0  # for the whole net is small
    kit = Kit(kit.folder, "parted")
    kinds = [type(section).__name__ for section in kit.model.sections]
    assert kinds == ["GpuSection", "CpuSection", "GpuSection"], kinds
    gives_the_cpu_engine_s_bytes(kit, control)


def refuses_bad_requests_as_the_cpu_engine_does(kit: Kit, control: OwnControl) -> None:
    ((name, good),) = kit.inputs[0].items()
    bad: list[Arrays] = [{}, {name: good, "other": good}, {name: good[:, 1:]},
                         {name: good.astype(np.float64)}]  # fmt: skip
    with (
        contextlib.closing(kit.engine()) as engine,
        contextlib.closing(CpuEngine(kit.content, "cpu-int8", threads=1)) as cpu,
    ):
        for given in bad:
            messages = []
            for each in (engine, cpu):
                try:
                    each.infer(given)
                except InvalidRequestError as error:
                    messages.append(error.message)
            assert len(messages) == 2, given.keys()
            assert messages[0] == messages[1]
        assert control.count("graph_launches") == 0
        kit.check(engine)


def leaks_nothing_over_fifty_lives(kit: Kit, control: OwnControl) -> None:
    threads = threading.active_count()
    for _ in range(50):
        engine = kit.engine()
        kit.check(engine)
        engine.close()
        engine.close()
        assert control.alive() == {}, control.alive()
        assert threading.active_count() == threads


def swaps_beside_an_engine_that_serves(kit: Kit, control: OwnControl) -> None:
    with contextlib.closing(kit.engine()) as first:
        alive = control.alive()
        for _ in range(3):
            with contextlib.closing(kit.engine()) as second:
                kit.check(first)
                kit.check(second)
                assert control.alive()["contexts"] == 1
        assert control.alive() == alive
        kit.check(first)


def serves_many_threads_with_an_engine_each(kit: Kit, control: OwnControl) -> None:
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                with contextlib.closing(kit.engine()) as engine:
                    kit.check(engine)
        except BaseException as error:  # noqa: BLE001 - looked at below
            wrong.append(error)

    assert kit.expected
    assert kit.model
    run_together([work] * 4)
    assert wrong == []
    assert control.alive() == {}, control.alive()


def closes_while_another_thread_infers(kit: Kit, control: OwnControl) -> None:
    assert kit.expected
    for _ in range(10):
        engine, begun, outcomes = kit.engine(), threading.Event(), list[str]()

        def infer(
            engine: CudaEngine = engine,
            begun: threading.Event = begun,
            outcomes: list[str] = outcomes,
        ) -> None:
            try:
                while True:
                    begun.set()
                    kit.check(engine)
            except EngineError as error:
                outcomes.append(error.message)

        def close(engine: CudaEngine = engine, begun: threading.Event = begun) -> None:
            begun.wait()
            engine.close()

        run_together([infer, close])
        assert outcomes == ["the engine is closed"]
        assert control.alive() == {}, control.alive()


def times_launches_by_the_gpu_s_clock(kit: Kit, control: OwnControl) -> None:
    section, threads = kit.gpu_sections[0], threading.active_count()
    with gpu_timer() as timer:
        assert timer(section.plan, section.cubins) > 0
        each = time_each(shared_gpu(), section.plan, section.cubins)
    assert len(each) == len(section.plan.launches)
    assert min(each) > 0
    assert control.alive() == {}, control.alive()
    assert threading.active_count() == threads


def launches_one_by_one_what_the_graph_does_at_once(kit: Kit, control: OwnControl) -> None:
    section, owner = kit.gpu_sections[0], shared_gpu()
    given = list(kit.inputs[0].values())
    owner.acquire()
    loaded = load(owner, section.plan, section.cubins)
    replayed = owner.call_here(lambda _: loaded.run(given))
    eager = owner.call(lambda _: loaded.run_eagerly(given))
    assert [values.tobytes() for values in eager] == [values.tobytes() for values in replayed]
    owner.release()
    assert control.alive() == {}, control.alive()


def ends_with_an_engine_that_nobody_closed(kit: Kit, control: OwnControl) -> None:
    engine = kit.engine()
    kit.check(engine)
    KEPT.append(engine)


def ends_with_a_lost_context_that_nobody_closed(kit: Kit, control: OwnControl) -> None:
    engine = kit.engine()
    control.plan("kernel:1:700")
    shared_gpu().submit(lambda _: threading.Event().wait(0.2))
    assert same(engine.infer(kit.inputs[0]), kit.expected[0])
    KEPT.append(engine)
