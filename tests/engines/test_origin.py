"""A bundle of another box, processor, GPU, driver, runtime or edgeq is told by its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import edgeq
from edgeq.bundle import Manifest
from edgeq.engines import origin
from edgeq.engines.cuda.gpu import device
from edgeq.engines.cuda.targets import Target
from edgeq.engines.origin import box_facts, differences, gpu_facts
from edgeq.errors import EngineError
from edgeq.tflite.runtime import runtime_version

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Atom x6425E\nflags\t\t: sse avx\n"
ORIN = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n"
GPU = {"gpu": "Orin", "target": "sm_87", "driver": "12.6"}


def root_of(folder: Path, cpuinfo: str = X86, board: str = "Jetson AGX Orin\0") -> Path:
    for name, text in {"proc/cpuinfo": cpuinfo, "proc/device-tree/model": board}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return root_of(tmp_path)


def made_here(root: Path, **changes: object) -> Manifest:
    manifest = Manifest(
        name="face",
        engine="cpu-int8",
        backend="cpu",
        method="entropy",
        model_sha256="",
        samples=64,
        runtime=str(runtime_version()),
        edgeq=edgeq.__version__,
        device=box_facts(root),
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Put an Orin into this box."""
    found = dict(GPU)
    monkeypatch.setattr(origin, "gpu_facts", lambda: found)
    return found


def of_gpu(root: Path, details: Mapping[str, object]) -> Manifest:
    return made_here(root, engine="cuda-int8", backend="cuda", details=details)


def test_what_was_built_here_and_now_differs_in_nothing(root: Path) -> None:
    assert differences(made_here(root), root) == ()
    assert differences(made_here(Path("/"))) == ()


def test_it_survives_the_manifest(root: Path) -> None:
    again = Manifest.from_json(made_here(root).to_json())
    assert again.device == box_facts(root)
    assert differences(again, root) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edgeq": "0.0.9"}, f"edgeq was '0.0.9' and is '{edgeq.__version__}'"),
        ({"runtime": "ai-edge-litert 2.0.1"}, "runtime was 'ai-edge-litert 2.0.1' and is"),
        ({"runtime": "tflite-runtime 2.14.0"}, "runtime was 'tflite-runtime 2.14.0' and is"),
    ],
)
def test_another_edgeq_or_runtime_is_named(root: Path, changes: dict[str, str], said: str) -> None:
    (found,) = differences(made_here(root, **changes), root)
    assert found.startswith(said)


def test_another_box_is_named_by_processor_and_board(root: Path, tmp_path: Path) -> None:
    elsewhere = root_of(tmp_path / "elsewhere", ORIN, "Jetson Orin Nano\0")
    assert differences(made_here(root), elsewhere) == (
        "processor was 'Atom x6425E' and is 'implementer 0x41, part 0xd42'",
        "board was 'Jetson AGX Orin' and is 'Jetson Orin Nano'",
    )


def test_another_machine_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = made_here(root)
    monkeypatch.setattr(origin.platform, "machine", lambda: "riscv64")
    (found,) = differences(manifest, root)
    assert "machine" in found
    assert found.endswith("is 'riscv64'")


def test_every_kind_of_core_of_a_mixed_processor_counts(tmp_path: Path) -> None:
    mixed = ORIN + ORIN + "processor\t: 2\nCPU implementer\t: 0x4e\nCPU part\t: 0x004\n"
    words = box_facts(root_of(tmp_path, mixed))["processor"]
    assert words == "implementer 0x41, part 0xd42, implementer 0x4e, part 0x004"


def test_what_an_older_edgeq_did_not_record_says_nothing(root: Path) -> None:
    assert differences(made_here(root, device={}), root) == ()
    assert differences(made_here(root, device={"lunar phase": "full"}), root) == ()


def test_a_box_that_tells_nothing_of_itself_is_no_other_box(root: Path, tmp_path: Path) -> None:
    assert differences(made_here(root), tmp_path / "nothing") == ()


# GPUs.


def test_the_same_gpu_and_driver_differ_in_nothing(root: Path, orin: dict[str, str]) -> None:
    assert differences(of_gpu(root, {**orin, "tuned": True}), root) == ()


@pytest.mark.parametrize(
    ("key", "then"), [("gpu", "Orin Nano"), ("target", "sm_72"), ("driver", "11.4")]
)
def test_another_gpu_capability_or_driver_is_named(
    root: Path, orin: dict[str, str], key: str, then: str
) -> None:
    details = {**orin, key: then}
    assert differences(of_gpu(root, details), root) == (f"{key} was {then!r} and is {orin[key]!r}",)


def test_a_gpu_that_is_gone_says_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "gpu_facts", dict)
    assert differences(of_gpu(root, GPU), root) == ()


def test_a_bundle_for_the_cpu_asks_no_gpu(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "gpu_facts", lambda: pytest.fail("asked"))
    assert differences(made_here(root), root) == ()


def test_the_driver_tells_what_the_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device.DeviceFacts("Orin", Target(87), 8, 8 << 30, True, (12, 6))
    monkeypatch.setattr(device, "facts", lambda: found)
    assert gpu_facts() == GPU


def test_without_a_driver_there_are_no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise EngineError("no driver")

    monkeypatch.setattr(device, "facts", refuse)
    assert gpu_facts() == {}
