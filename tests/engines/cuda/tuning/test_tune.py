from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.compiling.compile import CompiledKernel
from edgeq.engines.cuda.compiling.cubin import Resources
from edgeq.engines.cuda.launch import Kernel, Launch
from edgeq.engines.cuda.planning.plan import Candidates, Plan, Step, Trial
from edgeq.engines.cuda.targets import Target
from edgeq.engines.cuda.tuning.remembered import DeviceIdentity, Remembered
from edgeq.engines.cuda.tuning.tune import MOST_CHOICES, ROUNDS, Tuner, estimated, prune
from edgeq.errors import DeviceError, EngineError

ORIN = Target(87)
DEVICE = DeviceIdentity("Orin", 16, (12, 6), "")


def choice(name: str, microseconds: float) -> Choice:
    return Choice(name, microseconds, lambda: ())


def kernel_of(name: str) -> Kernel:
    return Kernel(name.split()[0], (("NAME", name),), 128)


def candidates(estimates: Mapping[str, float], label: str = "conv") -> Candidates:
    def trial(name: str) -> Trial:
        launch = Launch(kernel_of(name), (1, 1, 1), (), name)
        return Trial((launch,), b"", 0, 0, (), ())

    return Candidates(label, [choice(n, us) for n, us in estimates.items()], trial)


@dataclass
class FakeDevice:
    """Times choices by a table, some of them with a noise that comes and goes."""

    truth: Mapping[str, float]
    noise: Sequence[float] = (1.0,)
    errors: Mapping[str, Exception] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def time(self, trial: Trial, cubins: Mapping[Kernel, bytes]) -> float:
        (launch,) = trial.launches
        assert cubins == {launch.kernel: launch.label.encode()}
        if launch.label in self.errors:
            raise self.errors[launch.label]
        self.seen.append(launch.label)
        return self.truth[launch.label] * self.noise[len(self.seen) % len(self.noise)]


@dataclass
class FakeCompiler:
    refused: str = ""
    registers: int = 64
    calls: int = 0

    def compile(self, kernels: Sequence[Kernel]) -> dict[Kernel, CompiledKernel]:
        self.calls += 1
        if any(kernel == kernel_of(self.refused) for kernel in kernels if self.refused):
            raise EngineError(f"cannot compile {self.refused}")
        resources = Resources(self.registers, 0, 0, 0, 0)
        named = {kernel: str(dict(kernel.constants)["NAME"]) for kernel in kernels}
        return {k: CompiledKernel(k, name.encode(), resources, 0.1) for k, name in named.items()}


def tuner(device: FakeDevice, compiler: FakeCompiler | None = None, **more) -> Tuner:
    compiler = compiler or FakeCompiler()
    return Tuner(ORIN, DEVICE, device.time, compiler.compile, **more)


THREE = {"mma 64x64": 10.0, "mma 32x32": 12.0, "direct": 30.0}


# ---- choosing


def test_the_device_has_the_last_word():
    device = FakeDevice({"mma 64x64": 20.0, "mma 32x32": 14.0, "direct": 90.0})
    tuning = tuner(device)
    assert tuning.pick(candidates(THREE)).name == "mma 32x32"
    (node,) = tuning.tuning().nodes
    assert (node.label, node.choice, node.microseconds) == ("conv", "mma 32x32", 14.0)
    assert node.is_measured
    assert dict(node.timings) == device.truth
    assert tuning.tuning().tuned
    assert tuning.tuning().reason == ""


def test_the_choices_take_turns_and_the_hopeless_only_one():
    device = FakeDevice({"mma 64x64": 10.0, "mma 32x32": 12.0, "direct": 30.0})
    tuner(device).pick(candidates(THREE))
    assert device.seen[:5] == [*THREE, "mma 64x64", "mma 32x32"]
    assert [device.seen.count(name) for name in THREE] == [ROUNDS, ROUNDS, 1]


def test_a_lucky_round_does_not_win():
    luck = iter([9.0, 10.0, 12.0, 10.0, 12.0, 10.0, 12.0, 10.0, 12.0, 10.0])
    device = FakeDevice({"a": 1.0, "b": 1.0})
    lucky = Tuner(ORIN, DEVICE, lambda trial, cubins: next(luck), FakeCompiler().compile)
    assert lucky.pick(candidates({"a": 1.0, "b": 2.0})).name == "b"
    assert device.seen == []


def test_a_node_with_one_choice_is_not_timed():
    device = FakeDevice({})
    tuning = tuner(device)
    assert tuning.pick(candidates({"only": 3.0})).name == "only"
    (node,) = tuning.nodes
    assert (node.microseconds, node.is_measured) == (3.0, False)


def test_progress_tells_the_nodes_that_are_done():
    seen: list[int] = []
    tuning = tuner(FakeDevice(THREE), progress=seen.append)
    for _ in range(3):
        tuning.pick(candidates(THREE))
    assert seen == [1, 2, 3]


# ---- pruning


def test_the_best_of_every_kernel_is_timed():
    many = [choice(f"mma {n}", 10.0 + n) for n in range(20)] + [choice("direct", 500.0)]
    kept = [c.name for c in prune(many, 4)]
    assert kept == ["mma 0", "mma 1", "mma 2", "direct"]
    assert prune(many[:3], 8) == many[:3]


def test_a_chain_of_kernels_is_another_way_than_its_first():
    fused = [choice(f"depthwise_tiled {n}", 1.0 + n) for n in range(9)]
    chain = choice("depthwise_tiled 1x4 + conv_mma 64x64", 90.0)
    assert prune([*fused, chain], 3) == [fused[0], fused[1], chain]


def test_where_compiling_is_slow_fewer_are_timed():
    many = {f"mma {n}": 10.0 + n for n in range(20)}
    for sm, most in ((87, MOST_CHOICES), (53, 3)):
        device = FakeDevice(many)
        Tuner(Target(sm), DEVICE, device.time, FakeCompiler().compile).pick(candidates(many))
        assert len(set(device.seen)) == most


# ---- remembering


def test_what_was_tuned_before_is_not_timed_again(tmp_path):
    path = tmp_path / "tuning.json"
    first = tuner(FakeDevice(THREE), remembered=Remembered.load(path))
    first.pick(candidates(THREE))
    assert first.tuning().reason == ""
    device, compiler = FakeDevice({}), FakeCompiler()
    second = tuner(device, compiler, remembered=Remembered.load(path))
    assert second.pick(candidates(THREE, "other label")).name == "mma 64x64"
    assert (device.seen, compiler.calls) == ([], 0)
    assert second.nodes[0].is_measured


def test_equal_nodes_of_one_net_are_timed_once():
    device = FakeDevice(THREE)
    tuning = tuner(device)
    tuning.pick(candidates(THREE))
    count = len(device.seen)
    tuning.pick(candidates(THREE))
    assert len(device.seen) == count


def test_another_set_of_choices_is_timed_anew():
    device = FakeDevice({**THREE, "new": 1.0})
    tuning = tuner(device)
    tuning.pick(candidates(THREE))
    assert tuning.pick(candidates({**THREE, "new": 11.0})).name == "new"


def test_what_cannot_be_kept_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    tuning = tuner(FakeDevice(THREE), remembered=Remembered.load(tmp_path / "file/tuning.json"))
    tuning.pick(candidates(THREE))
    assert "tuning is not kept" in tuning.tuning().reason


# ---- what goes wrong


def test_a_choice_that_does_not_compile_is_left_out():
    tuning = tuner(FakeDevice(THREE), FakeCompiler(refused="mma 64x64"))
    assert tuning.pick(candidates(THREE)).name == "mma 32x32"
    assert tuning.nodes[0].problems == ("mma 64x64: cannot compile mma 64x64",)
    assert tuning.tuning().reason == "mma 64x64: cannot compile mma 64x64"


def test_a_choice_that_the_device_refuses_is_left_out():
    errors = {"mma 64x64": DeviceError("no resources")}
    tuning = tuner(FakeDevice(THREE, errors=errors))
    assert tuning.pick(candidates(THREE)).name == "mma 32x32"
    assert tuning.nodes[0].problems == ("mma 64x64: no resources",)


def test_a_lost_device_ends_the_tuning():
    errors = {"mma 64x64": DeviceError("illegal address", is_sticky=True)}
    with pytest.raises(DeviceError, match="illegal address"):
        tuner(FakeDevice(THREE, errors=errors)).pick(candidates(THREE))


def test_a_block_that_fits_nowhere_is_not_launched():
    device = FakeDevice(THREE)
    tuning = Tuner(Target(53), DEVICE, device.time, FakeCompiler(registers=255).compile)
    wide = candidates(THREE)
    assert tuning.pick(wide).name == "mma 64x64"  # 128 threads of 255 registers fit
    large = Kernel("mma", (("NAME", "mma 64x64"),), 256)
    heavy = Trial((Launch(large, (1, 1, 1), (), "mma 64x64"),), b"", 0, 0, (), ())
    mixed = Candidates("conv", wide.choices, lambda n: heavy if n == "mma 64x64" else wide.trial(n))
    assert tuning.pick(mixed).name == "mma 32x32"
    assert tuning.nodes[1].problems == ("mma 64x64: no multiprocessor can hold a block of it",)


def test_where_nothing_can_be_timed_the_estimate_holds():
    errors = {name: DeviceError("busy") for name in THREE}
    tuning = tuner(FakeDevice(THREE, errors=errors))
    assert tuning.pick(candidates(THREE)).name == "mma 64x64"
    (node,) = tuning.nodes
    assert (node.is_measured, node.microseconds) == (False, 10.0)
    assert len(node.problems) == 3


def test_without_a_device_the_cost_model_s_plan_says_so():
    step = Step("conv", "mma 64x64", 10.0, ())
    tuning = estimated(Plan(ORIN, (step,), (), (), b"", 0, 0), "no GPU here")
    assert (tuning.tuned, tuning.reason) == (False, "no GPU here")
    (node,) = tuning.nodes
    assert (node.label, node.choice, node.microseconds) == ("conv", "mma 64x64", 10.0)
    assert not node.is_measured
