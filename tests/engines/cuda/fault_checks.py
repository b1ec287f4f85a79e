"""What holds where the GPU fails; `test_engine_faults` runs each in a process of its own."""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import Any

from edgeq.engines.cuda.gpu.context import Gpu
from edgeq.engines.cuda.lowering import partition
from edgeq.errors import DeviceError
from tests.engines.cuda.engine_checks import gives_the_cpu_engine_s_bytes
from tests.engines.cuda.gpu_kit import Kit, OwnControl, same, settle


def survives_a_context_that_is_lost(kit: Kit, control: OwnControl) -> None:
    with contextlib.closing(kit.engine()) as engine:
        kit.check(engine)
        control.plan("kernel:3:700")
        answers = engine.infer(kit.inputs[0])
        assert same(answers, kit.expected[0])
        assert engine.kind == "cpu-int8"
        assert "CUDA_ERROR_ILLEGAL_ADDRESS" in engine.fault
        assert "until the kernels are loaded again" in engine.fault
        settle()
        kit.check(engine)
        assert engine.fault == ""
        assert control.count("contexts") == 1
    assert control.alive() == {}, control.alive()


def stays_on_the_cpu_after_a_second_loss(kit: Kit, control: OwnControl) -> None:
    with contextlib.closing(kit.engine()) as engine:
        for code in (719, 700):
            control.plan(f"kernel:1:{code}")
            assert same(engine.infer(kit.inputs[0]), kit.expected[0])
            settle()
        launched = control.count("graph_launches")
        for _ in range(3):
            kit.check(engine, "cpu-int8")
        assert control.count("graph_launches") == launched
        assert "not for the first time" in engine.fault
        with contextlib.closing(kit.engine()) as successor:
            kit.check(successor)
    assert control.alive() == {}, control.alive()


def recovers_every_engine_of_a_lost_context(kit: Kit, control: OwnControl) -> None:
    with contextlib.ExitStack() as open_engines:
        engines = [open_engines.enter_context(contextlib.closing(kit.engine())) for _ in range(3)]
        for round_ in range(2):  # the first one is out after two; others never failed
            control.plan("kernel:1:700")
            for engine in engines:
                assert same(engine.infer(kit.inputs[1]), kit.expected[1])
            settle()
            for engine in engines[1:]:
                kit.check(engine)
            kit.check(engines[0], "cpu-int8" if round_ else "cuda-int8")
        assert control.count("contexts") == 1
    assert control.alive() == {}, control.alive()


def answers_while_the_context_is_made_anew(kit: Kit, control: OwnControl) -> None:
    gate = threading.Event()
    with contextlib.closing(kit.engine()) as engine:
        rebuild = engine._rebuild

        def held_back(gpu: Gpu, failed: Any) -> Any:
            gate.wait(20)
            return rebuild(gpu, failed)

        engine._rebuild = held_back  # type: ignore[method-assign]
        control.plan("kernel:1:700")
        for _ in range(2):
            kit.check(engine, "cpu-int8")
        gate.set()
        settle()
        kit.check(engine)


def closes_while_it_is_loaded_again(kit: Kit, control: OwnControl) -> None:
    gate, engine = threading.Event(), kit.engine()
    rebuild = engine._rebuild

    def held_back(gpu: Gpu, failed: Any) -> Any:
        gate.wait(20)
        return rebuild(gpu, failed)

    engine._rebuild = held_back  # type: ignore[method-assign]
    control.plan("kernel:1:700")
    assert same(engine.infer(kit.inputs[0]), kit.expected[0])
    closing = threading.Thread(target=engine.close)
    closing.start()
    gate.set()
    closing.join()
    assert control.alive() == {}, control.alive()


def frees_what_a_failed_rebuild_had_loaded(kit: Kit, control: OwnControl) -> None:
    partition.SMALL_ELEMENTS = 0
    kit = Kit(kit.folder, "parted")
    assert len(kit.gpu_sections) == 2
    with contextlib.closing(kit.engine()) as engine:
        control.plan("kernel:1:700", "cuStreamCreate:2:2")
        assert same(engine.infer(kit.inputs[0]), kit.expected[0])
        settle()
        kit.check(engine, "cpu-int8")
        assert "out of memory" in engine.fault
        settle()
        assert control.alive() == {"contexts": 1, "pushed_contexts": 1}, control.alive()


def gives_up_where_the_gpu_cannot_be_used_again(kit: Kit, control: OwnControl) -> None:
    with contextlib.closing(kit.engine()) as engine:
        control.plan("kernel:1:700", "cuDevicePrimaryCtxRetain:1:46")
        assert same(engine.infer(kit.inputs[0]), kit.expected[0])
        settle()
        kit.check(engine, "cpu-int8")
        assert "the GPU cannot be used again" in engine.fault
        assert "CUDA_ERROR_DEVICE_UNAVAILABLE" in engine.fault


def loads_again_after_an_error_that_leaves_the_context(kit: Kit, control: OwnControl) -> None:
    with contextlib.closing(kit.engine()) as engine:
        alive = control.alive()
        control.plan("cuGraphLaunch:1:701")
        assert same(engine.infer(kit.inputs[0]), kit.expected[0])
        assert engine.kind == "cpu-int8"
        settle()
        kit.check(engine)
        assert control.alive() == alive
    assert control.alive() == {}, control.alive()


def says_what_memory_lacks_and_leaves_nothing(kit: Kit, control: OwnControl) -> None:
    for call in ("cuMemAlloc_v2", "cuMemHostAlloc", "cuModuleLoadDataEx", "cuStreamCreate",
                 "cuGraphInstantiateWithFlags"):  # fmt: skip
        control.plan(f"{call}:1:2", f"{call}:2:2")  # pycuda tries an allocation again
        error = refusal(kit)
        assert (error.code, error.is_sticky) == (2, False), call
        assert "out of memory" in error.message
        assert "swap.policy" in error.hint
        gc.collect()
        assert control.alive() == {}, (call, control.alive())
    control.plan()
    gives_the_cpu_engine_s_bytes(kit, control)


def refusal(kit: Kit, **options: Any) -> DeviceError:
    try:
        kit.engine(**options).close()
    except DeviceError as error:
        return error
    raise AssertionError(f"it was loaded, in spite of {OwnControl().faults()}")


def loads_again_after_a_load_that_lost_the_context(kit: Kit, control: OwnControl) -> None:
    with contextlib.closing(kit.engine()) as engine:
        control.plan("cuCtxSynchronize:1:700")
        assert refusal(kit).is_sticky
        assert same(engine.infer(kit.inputs[0]), kit.expected[0])
        settle()
        kit.check(engine)
    gives_the_cpu_engine_s_bytes(kit, control)


def compiles_again_what_the_driver_refuses(kit: Kit, control: OwnControl) -> None:
    made: list[Any] = []

    def recompile(plan: Any) -> Any:
        made.append(plan)
        return kit.gpu_sections[0].cubins

    control.plan("cuModuleLoadDataEx:2:209")
    with contextlib.closing(kit.engine(recompile=recompile)) as engine:
        assert len(made) == 1
        kit.check(engine)
    control.plan("cuModuleLoadDataEx:1:209")
    assert "NO_BINARY_FOR_GPU" in refusal(kit).message
    control.plan("cuModuleLoadDataEx:1:209", "cuModuleLoadDataEx:2:209")
    assert "NO_BINARY_FOR_GPU" in refusal(kit, recompile=recompile).message
    assert len(made) == 2
    assert control.alive() == {}, control.alive()
