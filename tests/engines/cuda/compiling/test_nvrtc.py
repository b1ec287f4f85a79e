from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgeq.engines.cuda.compiling import nvrtc
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.compilers import SMALL, real_compiler

SOURCE = "#define EQ_N 3\n" + SMALL


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def found(environment: dict[str, str], root: Path, search_path: list[Path] | None = None):
    places = nvrtc.candidates(environment, root, [str(p) for p in search_path or []])
    own = [path for path in places if path.startswith(str(root))]
    return [path.removeprefix(f"{root}/") for path in own]


# ---- where one is found


def test_the_toolkit_of_the_link_comes_first_and_a_file_only_once(tmp_path):
    touch(tmp_path, "usr/local/cuda-12.6/lib64/libnvrtc.so.12.6.85",
          "usr/local/cuda-11.4/targets/aarch64-linux/lib/libnvrtc.so.11.2")  # fmt: skip
    lib = tmp_path / "usr/local/cuda-12.6/lib64"
    (lib / "libnvrtc.so.12").symlink_to("libnvrtc.so.12.6.85")
    (lib / "libnvrtc.so").symlink_to("libnvrtc.so.12")
    (tmp_path / "usr/local/cuda").symlink_to("cuda-12.6")
    assert found({}, tmp_path) == [
        "usr/local/cuda/lib64/libnvrtc.so.12",
        "usr/local/cuda-11.4/targets/aarch64-linux/lib/libnvrtc.so.11.2",
    ]


def test_wheels_come_after_what_the_system_has_and_the_loader_is_asked_last(tmp_path):
    touch(tmp_path, "usr/local/cuda-13.0/lib64/libnvrtc.so.13",
          "usr/lib/x86_64-linux-gnu/libnvrtc.so.11.2", "own/libnvrtc.so.12",
          "nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
          "nvidia/cu13/lib/libnvrtc.so.13")  # fmt: skip
    environment = {"LD_LIBRARY_PATH": f"{tmp_path}/own:"}
    assert found(environment, tmp_path, [tmp_path / "nvidia"]) == [
        "usr/local/cuda-13.0/lib64/libnvrtc.so.13",
        "own/libnvrtc.so.12",
        "usr/lib/x86_64-linux-gnu/libnvrtc.so.11.2",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "nvidia/cu13/lib/libnvrtc.so.13",
    ]
    places = list(nvrtc.candidates(environment, tmp_path, [str(tmp_path / "nvidia")]))
    assert tuple(places[-3:]) == nvrtc.SONAMES


def test_a_toolkit_that_the_environment_names_comes_before_usr_local(tmp_path):
    touch(tmp_path, "opt/cuda/lib64/libnvrtc.so.12", "usr/local/cuda/lib64/libnvrtc.so.13")
    first, second = found({"CUDA_HOME": str(tmp_path / "opt/cuda")}, tmp_path)
    assert (first, second) == (
        "opt/cuda/lib64/libnvrtc.so.12", "usr/local/cuda/lib64/libnvrtc.so.13",
    )  # fmt: skip


def test_the_one_named_is_the_only_one_tried(tmp_path):
    touch(tmp_path, "usr/local/cuda/lib64/libnvrtc.so.13")
    assert list(nvrtc.candidates({nvrtc.OVERRIDE: "/x/libnvrtc.so"}, tmp_path)) == [
        "/x/libnvrtc.so"
    ]


def test_without_one_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nvrtc, "candidates", lambda _: iter(["libnvrtc.so.0"]))
    with pytest.raises(EngineError, match="NVRTC, the CUDA compiler, is not found") as caught:
        nvrtc.find_compiler()
    assert "apt install cuda-nvrtc" in caught.value.hint
    assert "pip install nvidia-cuda-nvrtc-cu12" in caught.value.hint


def test_a_file_that_is_no_library_is_named_with_the_loader_s_reason(monkeypatch, tmp_path):
    damaged = tmp_path / "libnvrtc.so.12"
    damaged.write_bytes(b"not ELF")
    monkeypatch.setenv(nvrtc.OVERRIDE, str(damaged))
    with pytest.raises(EngineError, match=f"{damaged} does not load"):
        nvrtc.find_compiler()


def test_a_library_that_is_not_nvrtc_is_said_to_be_none():
    with pytest.raises(EngineError, match=r"libm\.so\.6 is no NVRTC of CUDA 11\.2 or later"):
        nvrtc.load("libm.so.6")


# ---- which one is taken


class FakeCompilers:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *known: tuple[int, tuple[int, ...]]):
        self.all = [
            nvrtc.Compiler(f"/libnvrtc.so.{major}", (major, 0), sms, None)  # type: ignore[arg-type]
            for major, sms in known
        ]
        monkeypatch.setattr(nvrtc, "find_all", lambda: (self.all, []))


def test_the_first_that_knows_the_target_is_taken(monkeypatch):
    fakes = FakeCompilers(monkeypatch, (13, (75, 87, 110)), (12, (53, 72, 75, 87, 101)))
    assert nvrtc.find_compiler(Target(72)) is fakes.all[1]
    assert nvrtc.find_compiler(Target(87)) is fakes.all[0]


def test_a_compiler_newer_than_the_driver_is_passed_over(monkeypatch):
    fakes = FakeCompilers(monkeypatch, (13, (75, 87)), (12, (72, 87)))
    assert nvrtc.find_compiler(Target(87), newest_major=12) is fakes.all[1]
    with pytest.raises(EngineError, match=r"the driver is of CUDA 11 and cannot load") as caught:
        nvrtc.find_compiler(Target(87), newest_major=11)
    assert "NVRTC of CUDA 11" in caught.value.hint


def test_where_none_knows_the_target_each_says_what_it_knows(monkeypatch):
    FakeCompilers(monkeypatch, (13, (75, 87)))
    with pytest.raises(EngineError, match=r"compiles for sm_53: NVRTC 13\.0 .* knows sm_75, sm_87"
                       ) as caught:  # fmt: skip
        nvrtc.find_compiler(Target(53))
    assert "NVRTC 12.9" in caught.value.hint
    with pytest.raises(EngineError) as caught:
        nvrtc.find_compiler(Target(110))
    assert "NVRTC 13:" in caught.value.hint


# ---- what it makes


def test_a_cubin_is_elf_and_ptx_is_text():
    compiler = real_compiler(Target(87))
    assert compiler.compile(SOURCE, Target(87)).image.startswith(b"\x7fELF")
    ptx = nvrtc.compile_source(SOURCE, Target(87), "ptx").image
    assert b".target sm_87" in ptx
    assert b".visible .entry small" in ptx


def test_warnings_are_kept(monkeypatch):
    source = 'extern "C" __global__ void f(int* y) { int unused; y[0] = 1; }'
    log = real_compiler().compile(source, Target(87), name="f.cu").log
    assert 'f.cu(1): warning #177-D: variable "unused" was declared' in log


def test_a_source_that_does_not_compile_names_file_line_and_target():
    compiler = real_compiler()
    with pytest.raises(EngineError, match=r"cannot compile conv\.cu for sm_87: conv\.cu\(2\):"):
        compiler.compile('\nextern "C" __global__ void f() { g(); }', Target(87), name="conv.cu")


def test_a_target_that_a_compiler_does_not_know_is_said_so():
    compiler = real_compiler()
    unknown = next(sm for sm in (35, 110, 53) if sm not in compiler.architectures)
    with pytest.raises(EngineError, match=rf"no NVRTC here compiles for sm_{unknown}: NVRTC"):
        compiler.compile(SOURCE, Target(unknown))


def test_an_option_that_does_not_exist_is_an_error_of_the_compiler():
    with pytest.raises(EngineError, match=r"cannot compile kernel\.cu for sm_87: nvrtc: error"):
        real_compiler().compile(SOURCE, Target(87), options=("--no-such-option",))


def test_several_threads_compile_at_once():
    compiler, images = real_compiler(), {}

    def compile_one(n: int) -> None:
        images[n] = compiler.compile(f"#define EQ_N {n}\n{SMALL}", Target(87)).image

    threads = [threading.Thread(target=compile_one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = compiler.compile(f"#define EQ_N 5\n{SMALL}", Target(87)).image
    assert images[5] == alone
    assert len(set(images.values())) == 8
