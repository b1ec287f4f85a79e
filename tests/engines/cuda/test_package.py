"""What a bundle keeps of a model's kernels is what a load takes, and nothing stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.engines.base import PLAN_TEXT
from edgeq.engines.cuda.backend import make_package
from edgeq.engines.cuda.engine import CpuSection, GpuSection
from edgeq.engines.cuda.package import (
    INDEX,
    Kept,
    Origin,
    Package,
    as_model,
    cubin_name,
    kept_cubins,
    plan_model,
)
from edgeq.engines.cuda.planning.plan import first
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.engines.cuda.compilers import real_compiler
from tests.engines.op_case import Graph
from tests.quantize.minmax import minmax_table
from tests.tiny import Array
from tools.compile_everything import int8_models

ORIN = Target(87)


@pytest.fixture(scope="module")
def content() -> bytes:
    return next(model for name, model in int8_models(Path("/nowhere"))).to_bytes()


@pytest.fixture(scope="module")
def package(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Package:
    real_compiler(ORIN)
    ticks: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("cache")))
        made = make_package(
            content, "sm_87", compiled=lambda done, total: ticks.append((done, total))
        )
    assert ticks[-1] == (len(made.planned.kernels), len(made.planned.kernels))
    return made


def _reading(files: dict[str, bytes]) -> Callable[[str], bytes | None]:
    return files.get


def _kept(package: Package) -> Kept:
    kept = Kept.read(_reading(package.files()))
    assert kept is not None
    return kept


def test_a_bundle_keeps_the_choices_every_cubin_and_the_plan_as_text(package: Package) -> None:
    files = package.files()
    names = {cubin_name(kernel) for kernel in package.planned.kernels}
    assert set(files) == {INDEX, PLAN_TEXT, *names}
    assert all(files[name].startswith(b"\x7fELF") for name in names)
    text = files[PLAN_TEXT].decode()
    assert "target    sm_87" in text
    assert "CONV_2D" in text


def test_the_manifest_says_what_it_is_for_and_that_it_was_not_tuned(package: Package) -> None:
    details = package.details()
    assert (details["target"], details["tuned"], details["cpu_ops"]) == ("sm_87", False, [])
    assert details["tuning"] == "built for another box: the cost model chose"
    assert details["kernels"] == len(package.planned.kernels)
    assert details["gpu_parts"] == 1
    json.dumps(details)


def test_a_load_plans_the_same_kernels_and_finds_their_cubins(
    package: Package, content: bytes
) -> None:
    kept = _kept(package)
    assert (kept.target, kept.origin.compiler[:5]) == (ORIN, "NVRTC")
    again = plan_model(content, ORIN, kept.pick)
    assert again.kernels == package.planned.kernels
    cubins = kept_cubins(again.kernels, _reading(package.files()))
    assert cubins == {kernel: own.image for kernel, own in package.kernels.items()}
    model = as_model(again, cubins)
    (section,) = model.sections
    assert isinstance(section, GpuSection)
    assert (section.inputs, section.outputs) == (model.inputs, model.outputs)


def test_choices_are_taken_by_name_and_what_has_gone_is_chosen_anew(
    package: Package, content: bytes
) -> None:
    others = plan_model(content, ORIN, lambda _: lambda candidates: candidates.choices[-1])
    wanted = tuple(tuple(step.choice for step in plan.steps) for plan in others.plans)
    kept = Kept(ORIN, package.origin, wanted)
    assert plan_model(content, ORIN, kept.pick).kernels == others.kernels
    renamed = Kept(ORIN, package.origin, tuple(tuple("gone" for _ in own) for own in wanted))
    assert plan_model(content, ORIN, renamed.pick).kernels == package.planned.kernels
    shorter = Kept(ORIN, package.origin, ())
    assert plan_model(content, ORIN, shorter.pick).kernels == package.planned.kernels


def test_a_kernel_whose_source_changed_is_not_taken_from_the_bundle(package: Package) -> None:
    files = package.files()
    gone = package.planned.kernels[0]
    del files[cubin_name(gone)]
    assert gone not in kept_cubins(package.planned.kernels, _reading(files))


def test_a_bundle_of_the_cpu_has_no_index() -> None:
    assert Kept.read(_reading({})) is None


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format": 1}', "is damaged: KeyError"),
        (b'{"format": 2}', "has format 2; this edgeq reads up to 1"),
    ],
)
def test_an_index_that_cannot_be_read_says_so(index: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        Kept.read(_reading({INDEX: index}))
    assert caught.value.hint


def _with_float_middle() -> tuple[Model, dict[str, Array]]:
    """Return convolutions around a GATHER_ND, which the CPU engine computes."""
    g = Graph({"x0": (1, 16, 16, 16)})
    shape = (1, 16, 16, 16)

    def convolved(x: int) -> int:
        return g.apply(
            "CONV_2D", [x, g.weights((16, 3, 3, 16), 0), g.bias(16)], shape,
            options="Conv2DOptions", strideW=1, strideH=1,
        )  # fmt: skip

    middle = g.op("LOG_SOFTMAX", [convolved(g.inputs[0])], ("middle", shape))
    model = g.finish(convolved(middle))
    random = g._random
    return model, {"x0": random.normal(size=shape).astype("float32")}


def test_a_model_in_parts_numbers_what_crosses_alike_on_both_sides() -> None:
    model, given = _with_float_middle()
    int8 = quantize(model, minmax_table(model, [given])).model
    planned = plan_model(int8.to_bytes(), ORIN, lambda _: first)
    cuda = as_model(planned, dict.fromkeys(planned.kernels, b""))
    kinds = [type(section) for section in cuda.sections]
    assert kinds == [GpuSection, CpuSection, GpuSection]
    known = set(cuda.inputs)
    for section in cuda.sections:
        assert set(section.inputs) <= known
        known |= set(section.outputs)
        if isinstance(section, CpuSection):
            runner = Runner(section.content)
            assert len(runner.inputs) == len(section.inputs)
    assert set(cuda.outputs) <= known
    assert (
        Package(planned, {}, Origin("NVRTC 12.9", tuned=False)).details()["cpu_ops"][0]["name"]
        == "LOG_SOFTMAX"
    )


def test_a_model_without_work_for_the_gpu_says_why() -> None:
    g = Graph({"x0": (1, 4)})
    model = g.finish(g.op("LOG_SOFTMAX", g.inputs, ("y", (1, 4))))
    with pytest.raises(EngineError, match="the GPU has nothing to do: LOG_SOFTMAX") as caught:
        plan_model(model.to_bytes(), ORIN, lambda _: first)
    assert "cpu" in caught.value.hint


def test_the_manifest_names_the_gpu_that_it_was_proven_on_and_none_where_that_is_another(
    package: Package,
) -> None:
    assert not {"gpu", "driver"} & set(package.details())
    here = replace(package, origin=replace(package.origin, gpu="Orin", driver="12.6"))
    told = here.details()
    assert (told["gpu"], told["target"], told["driver"]) == ("Orin", "sm_87", "12.6")
