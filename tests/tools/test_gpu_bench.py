from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.engines.cuda.estimating.boards import BOARDS
from edgeq.engines.cuda.gpu import presence
from edgeq.engines.cuda.launch import Kernel, Launch, Work
from edgeq.engines.cuda.planning.plan import Plan as CudaPlan
from edgeq.engines.cuda.planning.plan import Step
from edgeq.engines.cuda.targets import Target
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.engines.cuda.fake_libcuda.fake import Control, FakeGpu, fake_cuda
from tools.gpu_bench import bench, checks, children, program
from tools.gpu_bench.bench import LayerRow, NetRow, Plan, Results
from tools.gpu_bench.bits import compare
from tools.gpu_bench.children import Answer, Clock, ask
from tools.gpu_bench.contestants import ALL, LAYERS, WHOLE_NETS
from tools.gpu_bench.convolutions import convolutions, same_margins
from tools.gpu_bench.models import batched, int8_content, noise
from tools.gpu_bench.rates import board_of, layer_rates
from tools.gpu_bench.table import checks_text, table_of, verdict_of
from tools.gpu_bench.timing import time_calls

without_gpu = pytest.mark.skipif(not presence.why_not(), reason="there is a GPU here")
ROOT = Path(__file__).resolve().parents[2]
ORIN = next(board for board in BOARDS if board.name == "Jetson AGX Orin")


@pytest.fixture(scope="module")
def int8_tiny() -> bytes:
    return int8_content(tiny.tiny_model().to_bytes())


# ---- models


def test_a_float_model_is_quantized_and_an_int8_one_is_left_as_it_is(int8_tiny):
    model = Model.from_bytes(int8_tiny)
    assert "INT8" in {model.type_name(i) for i in range(len(model.tensors))}
    assert int8_content(int8_tiny) is int8_tiny


def test_files_and_folders_become_int8_models_and_what_is_none_is_told(tmp_path, capsys):
    places = tmp_path / "models"
    places.mkdir()
    for name in ("b", "a"):
        (places / f"{name}.tflite").write_bytes(tiny.tiny_model().to_bytes())
    (places / "c.tflite").write_text("version https://git-lfs")
    folder = tmp_path / "out"
    folder.mkdir()
    found = program.gather([], [places / "b.tflite", places], folder)
    assert [name for name, _ in found] == ["b", "a", "b"]
    model = Model.read(found[1][1])
    assert "INT8" in {model.type_name(i) for i in range(len(model.tensors))}
    assert "c.tflite: the file starts with" in capsys.readouterr().err


def test_a_batch_goes_through_the_net_image_by_image():
    model = tiny.one_op_model("TANH", (1, 6))
    content = int8_content(model.to_bytes())
    (together,) = noise(batched(content, 3), 1)
    assert together["x"].shape == (3, 6)
    whole = Runner(batched(content, 3)).run(together)["y"]
    alone = Runner(content)
    assert np.array_equal(whole, [alone.run({"x": row[None]})["y"][0] for row in together["x"]])


def test_noise_fills_the_range_of_an_integer():
    graph = tiny.GraphBuilder({"x": (1, 400)}, type_name="INT32")
    content = graph.finish(graph.op("ABS", [0], ("y", (1, 400)), type_name="INT32")).to_bytes()
    (values,) = noise(content, 1)
    assert values["x"].dtype == np.int32
    assert values["x"].min() < -(2**30) < 2**30 < values["x"].max()


# ---- bits


class Answering:
    def __init__(self, *values: float) -> None:
        self.values = np.array(values, np.float32)

    def infer(self, inputs: Mapping[str, Any], /) -> dict[str, Any]:
        return {"y": self.values}


def test_values_count_as_equal_only_bit_for_bit():
    bits = compare(Answering(1.0, 0.0, 3.5, 2.0), Answering(1.0, -0.0, 3.0, 2.0), [{}, {}])
    assert (bits.differing, bits.values, bits.largest) == (4, 8, 0.5)


# ---- layers by their extents


def test_convolutions_and_products_are_found_with_their_padding(int8_tiny):
    convolution, dense = convolutions(Model.from_bytes(int8_tiny), batch=2)
    assert str(convolution) == "2x8x8x3 3x3/1 -> 6"
    assert (convolution.before, convolution.after) == ((1, 1), (1, 1))
    assert convolution.multiply_accumulates == 2 * 64 * 6 * 27
    assert not convolution.is_product
    assert dense.is_product
    assert (dense.rows, dense.c, dense.oc) == (2, 24, 4)


@pytest.mark.parametrize(
    ("extent", "size", "stride", "dilation", "margins"),
    [(8, 3, 1, 1, (1, 1)), (224, 3, 2, 1, (0, 1)), (7, 3, 2, 1, (1, 1)), (9, 3, 1, 2, (2, 2)),
     (8, 1, 2, 1, (0, 0))],
)  # fmt: skip
def test_same_padding_is_uneven_after(extent, size, stride, dilation, margins):
    assert same_margins(extent, size, stride, dilation) == margins


# ---- rates


def step(label: str, *works: Work) -> Step:
    kernel = Kernel("conv_mma", (), 128)
    launches = tuple(Launch(kernel, (1, 1, 1), (), label, work) for work in works)
    return Step(label, "conv_mma 64x64", 5.0, launches)


def test_a_layer_s_rates_are_those_of_its_launches_together():
    steps = (step("0 QUANTIZE", Work(0, 4_000, 1_000)),
             step("1 CONV_2D + 12 ADD", Work(10_000_000, 1_000, 0), Work(0, 0, 9_000)))  # fmt: skip
    plan = CudaPlan(Target(87), steps, (), (), b"", 0, 0)
    quantize, convolution = layer_rates(plan, [2.0, 6.0, 4.0], ORIN)
    assert convolution.microseconds == 10.0
    assert convolution.tops == pytest.approx(2.0)
    assert convolution.tops_share == pytest.approx(2.0 / ORIN.int8_tops)
    assert convolution.gigabytes_per_s == pytest.approx(1.0)
    assert convolution.positions == (1, 12)
    assert (quantize.tops, quantize.bound) == (0.0, "memory")
    assert quantize.gigabytes_per_s == pytest.approx(2.5)
    assert quantize.roofline_share == pytest.approx(2.5 / ORIN.gigabytes_per_s)


def test_the_board_is_the_one_that_the_driver_names():
    assert board_of("NVIDIA H200", Target(90)).name == "H200"
    assert board_of("Jetson Orin Nano Super 8GB", Target(87)).name == "Jetson Orin Nano Super"
    assert board_of("something", Target(87)).target == Target(87)


# ---- time


def test_percentiles_are_of_single_calls_in_milliseconds():
    now = [0.0]

    def call() -> None:
        now[0] += 0.002

    times = time_calls(call, seconds=0.1, clock=lambda: now[0])
    assert times.p50_ms == pytest.approx(2.0)
    assert times.p99_ms == pytest.approx(2.0)
    assert 20 <= times.runs <= 51


def test_after_the_limit_nothing_is_started():
    answer = ask("device", {}, Clock(10.0, time.monotonic() - 10), 60)
    assert answer == {"status": "skipped", "reason": "the limit of 10 s is spent"}


# ---- children


@without_gpu
def test_a_machine_without_a_gpu_says_so(int8_tiny, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(int8_tiny)
    clock = Clock.start(60)
    answer = ask("bits", {"model": str(model)}, clock, 60)
    assert answer["status"] == "failed"
    assert "pycuda" in answer["reason"] or "driver" in answer["reason"]
    timed = ask("LiteRT on the CPU", {"model": str(model), "batch": 1, "seconds": 0.01}, clock, 60)
    assert timed["status"] == "ok"
    (times,) = timed["ways"].values()
    assert times["p50_ms"] > 0


@without_gpu
@pytest.mark.parametrize("contestant", ["torch.compile fp16", *LAYERS])
def test_a_peer_that_is_not_here_is_absent_with_its_reason(contestant, int8_tiny, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(int8_tiny)
    request = {"model": str(model), "batch": 1, "seconds": 0.01, "mode": "default"}
    answer = ask(contestant, request, Clock.start(120), 120)
    assert answer["status"] == "absent"
    assert "torch" in answer["reason"] or "cudnn" in answer["reason"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import sys; sys.stderr.write('no such board'); sys.exit(3)", "exit code 3: no such"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
    ],
)
def test_whatever_becomes_of_a_child_is_told(tmp_path, code, reason):
    answer = children._run([sys.executable, "-c", code], tmp_path / "reply", 1.0)
    assert answer["status"] == "failed"
    assert answer["reason"].startswith(reason)


# ---- rows

RATE = {"label": "3 CONV_2D + 4 ADD", "choice": "conv_mma 64x64 s3", "microseconds": 10.0,
        "estimated": 8.0, "tops": 40.0, "gigabytes_per_s": 50.0, "tops_share": 0.5,
        "bandwidth_share": 0.25, "roofline_share": 0.6, "bound": "products",
        "positions": [3, 4]}  # fmt: skip
OURS: Answer = {
    "status": "ok",
    "bits": {"differing": 0, "values": 12, "largest": 0.0},
    "ways": {
        "graph": {"p50_ms": 0.1, "p99_ms": 0.2, "runs": 100, "gpu_us": 80.0},
        "eager": {"p50_ms": 0.3, "p99_ms": 0.4, "runs": 100},
    },
    "layers": [RATE, {**RATE, "label": "5 SOFTMAX", "positions": [5]}],
}
THEIRS: Answer = {"status": "ok", "ways": {"graph": {"p50_ms": 0.2, "p99_ms": 0.3, "runs": 9}}}
CUDNN: Answer = {
    "status": "ok",
    "layers": [{"position": 3, "extents": "1x8x8x64 3x3/1 -> 64", "us": 6.0, "form": "int8 out"}],
}
ANSWERS = {
    "edgeq": OURS,
    "torch.compile fp16": THEIRS,
    "cuDNN int8": CUDNN,
    "torch._int_mm": {"status": "absent", "reason": "No module named 'torch'"},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []

    def answer(contestant: str, request: Mapping[str, Any], *_: object) -> Answer:
        asked.append((contestant, request["batch"]))
        return ANSWERS[contestant]

    monkeypatch.setattr(bench, "ask", answer)
    return asked


@pytest.fixture
def results(asked: list[tuple[str, int]]) -> Results:
    models = [("net", Path("net.tflite"))]
    nets, layers = ["edgeq", "torch.compile fp16"], ["cuDNN int8", "torch._int_mm"]
    plan = Plan(models, [1, 8], nets, layers, 1.0, 60.0, "default")
    found = list(bench.run(plan, Clock.start(60)))
    return Results(
        tuple(n for r in found for n in r.nets), tuple(x for r in found for x in r.layers)
    )


def test_single_layers_are_asked_for_at_the_first_batch_only(results, asked):
    assert asked == [("edgeq", 1), ("torch.compile fp16", 1), ("cuDNN int8", 1),
                     ("torch._int_mm", 1), ("edgeq", 8), ("torch.compile fp16", 8)]  # fmt: skip


def test_each_way_of_each_contestant_is_a_row(results):
    rows = [(row.batch, row.contestant, row.way, row.status) for row in results.nets]
    assert rows[:4] == [(1, "edgeq", "graph", "ok"), (1, "edgeq", "eager", "ok"),
                        (1, "torch.compile fp16", "graph", "ok"),
                        (1, "torch._int_mm", "", "absent")]  # fmt: skip
    assert results.nets[0].differing == 0
    assert results.nets[2].differing is None


def test_layers_are_joined_by_the_op_s_position(results):
    convolution, softmax = [row for row in results.layers if row.batch == 1]
    assert convolution.ratio("cuDNN int8") == pytest.approx(0.6)
    assert convolution.extents == "1x8x8x64 3x3/1 -> 64"
    assert (softmax.others, softmax.ratio("cuDNN int8")) == ({}, None)


def test_the_table_shows_ratios_rates_and_who_was_absent(results):
    text = table_of(results)
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "torch.compile", "fp16", "graph", "0.200", "0.300", "2.00"] in lines
    assert ["1", "edgeq", "graph", "0.100", "0.200", "80.0", "1.00", "0"] in lines
    assert "absent: No module named 'torch'" in text
    assert "net, batch 1: the 2 longest of 2 steps, 20.0 us together" in text
    (layer,) = (line for line in text.splitlines() if "3 CONV_2D + 4 ADD 1x8x8x64" in line)
    assert "10.00 8.0 40.00 50.0 50 25.0 60.0 6.00 0.60 conv_mma" in " ".join(layer.split())


def test_the_results_are_json(results):
    read = json.loads(json.dumps(program.as_json(results)))
    assert len(read["nets"]) == len(results.nets)
    assert NetRow(**read["nets"][0]) == results.nets[0]
    assert LayerRow(**read["layers"][0]).ratio("cuDNN int8") == pytest.approx(0.6)


# ---- checks

AGREES = {"status": "ok", "bits": {"differing": 0, "values": 8, "largest": 0.0}}
DIFFERS = {"status": "ok", "bits": {"differing": 3, "values": 8, "largest": 0.25}}


def test_a_check_tells_what_agrees_and_each_row_that_does_not():
    rows = [{"name": "a", **AGREES}, {"name": "b", **AGREES}, {"name": "c", **DIFFERS},
            {"name": "d", "status": "on the CPU", "reason": "SELECT has no kernel"},
            {"name": "e", "status": "failed", "reason": "illegal address"}]  # fmt: skip
    assert checks_text(rows).splitlines() == [
        "2 bit for bit, 1 differs, 1 failed, 1 on the CPU",
        "  c: 3 of 8 values differ, by 0.25 at most",
        "  e: failed: illegal address",
    ]
    assert [verdict_of(row) for row in rows[1:4]] == ["bit for bit", "differs", "on the CPU"]


def test_a_row_that_kills_its_child_is_found_and_the_others_are_still_checked(monkeypatch):
    def answer(_: str, request: Mapping[str, Any], *__: object) -> Answer:
        if "bad" in request["rows"]:
            return {"status": "failed", "reason": "killed by SIGSEGV"}
        return {"status": "ok", "rows": [{"name": n, **AGREES} for n in request["rows"]]}

    monkeypatch.setattr(checks, "ask", answer)
    names = [f"row{i}" for i in range(50)]
    rows = checks.check_op_table([*names[:20], "bad", *names[20:]], Clock.start(60))
    assert [row["name"] for row in rows if row["status"] != "ok"] == ["bad"]
    assert sorted(row["name"] for row in rows) == sorted([*names, "bad"])


# ---- the programs


def test_every_contestant_has_a_place_in_the_help(capsys):
    assert set(ALL) == {*WHOLE_NETS, *LAYERS, "device", "bits", "op table"}
    with pytest.raises(SystemExit):
        program.make_parser("").parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(name in text for name in (*WHOLE_NETS, *LAYERS))


@without_gpu
def test_without_a_gpu_the_check_ends_with_the_reason(tmp_path):
    report = tmp_path / "out/report.json"
    done = subprocess.run(
        [ROOT / "tools/gpu_check", "--workloads", "--json", report],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("no GPU that can be used: ")
    written = json.loads(report.read_text())
    assert written["device"] is None
    assert written["reason"] in done.stdout


def test_a_machine_with_a_gpu_is_checked_and_timed_in_one_command(tmp_path):
    """The GPU is a fake one that computes on the CPU: its figures mean nothing."""
    control = Control(tmp_path / "control")
    machine = FakeGpu(fake_cuda(), control)
    environment = machine.environment(sm=87, name="NVIDIA Jetson AGX Orin")
    model, report = tmp_path / "tiny.tflite", tmp_path / "report.json"
    model.write_bytes(tiny.tiny_model().to_bytes())
    done = subprocess.run(
        [ROOT / "tools/gpu_check", "--workloads", "--models", model, "--rows", "MUL", "SELECT",
         "--batches", "1", "--seconds", "0.01", "--json", report,
         "--contestants", "edgeq", "torch._int_mm"],
        env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    control.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "op table: 1 bit for bit, 1 on the CPU" in done.stdout
    assert "models: 1 bit for bit" in done.stdout
    written = json.loads(report.read_text())
    assert written["device"]["board"] == "Jetson AGX Orin"
    ways = {row["way"]: row for row in written["nets"] if row["contestant"] == "edgeq"}
    assert ways["graph"]["differing"] == 0
    assert ways["graph"]["gpu_us"] > 0
    assert ways["eager"]["p50_ms"] > 0
    assert "1 CONV_2D" in {row["rate"]["label"] for row in written["layers"]}
