from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeq.bundle import Bundle
from edgeq.cli import building
from edgeq.engines import latency
from edgeq.engines.latency import Latency
from edgeq.verify import VerifyOptions
from tests import tiny
from tests.quantize.sensitive import chain, dead_channel_samples

CONTRACT_KEYS = {
    "bundle", "backend", "method", "tensors", "samples", "float_ops", "verdict", "stages",
}  # fmt: skip


@pytest.fixture
def quick(model, samples):
    """The arguments of a build of one method."""
    return ["build", model, "--samples", samples, "--method", "max"]


# ---- what it says


def test_json_is_one_object_with_the_promised_keys(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--out", tmp_path / "b", "--json")
    assert ran.code == 0
    assert set(ran.json) >= CONTRACT_KEYS
    assert ran.json["bundle"] == str(tmp_path / "b")
    assert ran.json["verdict"]["passed"] is True
    assert Bundle.open(tmp_path / "b").manifest.name == "digits"


def test_a_person_gets_the_verdict_in_words(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--out", tmp_path / "b")
    assert ran.code == 0
    for part in (f"bundle    {tmp_path / 'b'}", "cpu-int8, ranges by max", "48 used, 0 dropped",
                 "passed on ", "agreement 100.00%", "latency   float "):  # fmt: skip
        assert part in ran.out


def test_progress_is_json_lines_on_stderr_alone(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--out", tmp_path / "b", "--json", "--progress", "json")
    assert ran.json["samples"] == 48
    steps = [json.loads(line) for line in ran.err.splitlines()]
    assert {"stage", "done", "total", "seconds"} <= set(steps[0])
    assert list(dict.fromkeys(step["stage"] for step in steps)) == list(ran.json["stages"])


def test_the_bundle_is_named_after_the_model(edgeq, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert edgeq(*quick, "--json").json["bundle"] == "digits.bundle"
    assert edgeq(*quick, "--name", "numbers", "--json").json["bundle"] == "numbers.bundle"
    assert Bundle.open(tmp_path / "numbers.bundle").manifest.name == "numbers"


def test_the_float_ops_are_named_with_what_each_costs(edgeq, tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    (tmp_path / "m.tflite").write_bytes(chain(huge_weight_at=2).to_bytes())
    np.save(folder / "x.npy", np.stack([s.inputs["x"][0] for s in dead_channel_samples(32)]))
    flags = ["--task", "regression", "--cosine", "0", "--sqnr-db", "20", "--out", tmp_path / "b"]
    ran = edgeq("build", tmp_path / "m.tflite", "--samples", folder, *flags)
    assert ran.code == 0
    assert "float ops 1\n          2 CONV_2D: kept float: alone in INT8 it leaves" in ran.out


# ---- --keep


def test_keep_holds_every_file_of_the_build(edgeq, quick, tmp_path):
    keep = tmp_path / "a" / "kept"
    ran = edgeq(*quick, "--out", tmp_path / "b", "--keep", keep, "--json")
    files = {path.name for path in keep.iterdir()}
    assert files == set(Bundle.open(Path(ran.json["bundle"])).manifest.files) | {
        "calibration.max.json", "int8.max.tflite",
    }  # fmt: skip


def test_keep_shows_why_the_gate_refused(edgeq, quick, tmp_path):
    gate = ["--task", "regression", "--sqnr-db", "400"]
    keep = tmp_path / "kept"
    ran = edgeq(*quick, *gate, "--out", tmp_path / "b", "--keep", keep, "--json")
    assert ran.code == 1
    assert ran.json["kind"] == "GateError"
    assert ran.json["verdict"] == json.loads((keep / "verdict.json").read_bytes())
    assert json.loads((keep / "verdict.json").read_bytes())["passed"] is False
    assert (keep / "int8.max.tflite").is_file()
    assert not (tmp_path / "b").exists()


# ---- what is refused, and how


def test_a_refused_gate_exits_1_with_reason_and_hint(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--task", "regression", "--sqnr-db", "400", "--out", tmp_path / "b")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("edgeq: the INT8 engine was refused: output 'scores' has SQNR")
    assert "\nhint: " in ran.err


def test_cuda_is_refused_and_not_replaced_by_the_cpu(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--backend", "cuda", "--out", tmp_path / "b", "--json")
    assert ran.code == 1
    assert ran.json["kind"] == "EngineError"
    assert "cuda" in ran.json["error"]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--backend", "tpu"), ("--method", "magic"), ("--threads", "0"), ("--golden", "-1"),
     ("--golden", "two"), ("--held-out-ratio", "0"), ("--held-out-ratio", "1"),
     ("--agreement", "1.5"), ("--agreement", "nan"),
        ("--agreement", "most"), ("--sqnr-db", "much"), ("--cosine", "-2"), ("--sqnr-db", "inf"),
     ("--task", "detection"), ("--progress", "loud")],
)  # fmt: skip
def test_an_impossible_value_is_bad_usage(flag, value, edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--out", tmp_path / "b", flag, value)
    assert (ran.code, ran.out) == (2, "")
    assert f"argument {flag}" in ran.err


def test_a_missing_model_or_folder_is_bad_usage(edgeq, model, samples, tmp_path):
    ran = edgeq("build", tmp_path / "no.tflite", "--samples", samples)
    assert ran.code == 2
    assert "is not a file" in ran.err
    ran = edgeq("build", model, "--samples", tmp_path / "no")
    assert ran.code == 2
    assert "not a folder" in ran.err
    assert edgeq("build", tmp_path, "--samples", samples).code == 2


def test_a_damaged_model_is_refused_with_a_hint(edgeq, model, samples, tmp_path):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(model.read_bytes()[:20_000])
    ran = edgeq("build", cut, "--samples", samples, "--out", tmp_path / "b", "--json")
    assert ran.code == 1
    assert ran.json["kind"] == "StructureError"
    assert ran.json["hint"]


def test_an_existing_bundle_is_not_overwritten(edgeq, quick, tmp_path):
    ran = edgeq(*quick, "--out", tmp_path)
    assert ran.code == 1
    assert "already there" in ran.err


def test_a_folder_without_rights_is_named(edgeq, model, samples, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    flags = ["--method", "max", "--out", tmp_path / "b", "--keep", blocked / "kept"]
    ran = edgeq("build", model, "--samples", samples, *flags)
    assert ran.code == 1
    assert f"edgeq: {blocked}" in ran.err
    assert "Traceback" not in ran.err


# ---- samples that are of no use


def test_files_that_cannot_be_used_are_named_and_the_rest_is(edgeq, model, samples, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(samples, folder)
    for number in range(7):
        np.save(folder / f"wrong{number}.npy", np.zeros((3, 3), np.float32))
    flags = ["--method", "max", "--out", tmp_path / "b", "--json"]
    ran = edgeq("build", model, "--samples", folder, *flags)
    assert ran.json["samples"] == 48
    assert ran.err.count("edgeq: sample skipped: wrong") == 5
    assert "edgeq: 2 more were skipped" in ran.err


def test_when_no_file_can_be_used_the_reason_is_there_too(edgeq, model, tmp_path):
    np.save(tmp_path / "wrong.npy", np.zeros((3, 3), np.float32))
    ran = edgeq("build", model, "--samples", tmp_path, "--out", tmp_path / "b")
    assert ran.code == 1
    assert "sample skipped: wrong.npy: an array of shape [3, 3]" in ran.err
    assert "there are 0 samples" in ran.err
    assert "hint: Add samples" in ran.err


def test_a_person_is_told_what_was_dropped_and_what_stays_float(edgeq, tmp_path):
    g = tiny.GraphBuilder({"a": (1, 8)})
    wave = g.op("SIN", g.inputs, ("wave", (1, 8)))
    (tmp_path / "m.tflite").write_bytes(g.finish(g.op("TANH", [wave], ("y", (1, 8)))).to_bytes())
    (tmp_path / "s").mkdir()
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "s" / "a.npz", a=draw.normal(size=(20, 8)).astype(np.float32))
    np.save(tmp_path / "s" / "b.npy", np.full((1, 8), np.inf, np.float32))
    ran = edgeq(
        "build", tmp_path / "m.tflite", "--samples", tmp_path / "s", "--out", tmp_path / "b"
    )
    assert ran.code == 0
    assert "20 used, 1 dropped" in ran.out
    assert "an input holds NaN or infinity" in ran.out
    assert "float ops 1\n          0 SIN: " in ran.out


def test_live_samples_do_not_hide_what_was_skipped(edgeq, model, samples, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(samples, folder)
    np.save(folder / "wrong.npy", np.zeros((3, 3), np.float32))
    flags = ["--method", "max", "--live-samples", samples, "--out", tmp_path / "b"]
    assert "wrong.npy" in edgeq("build", model, "--samples", folder, *flags).err


# ---- where options come from


def options_of(edgeq, monkeypatch, *arguments):
    """The options that the command line, sidecar and configuration add up to."""
    seen = []

    def build(content, source, out, options, *rest):
        seen.append(options)
        raise KeyboardInterrupt  # that is all this test wants

    monkeypatch.setattr(building, "build", build)
    assert edgeq("build", *arguments).code == 130
    return seen[0]


def test_options_come_from_command_line_then_sidecar_then_configuration(
    edgeq, monkeypatch, model, samples, tmp_path
):
    shutil.copy(model, tmp_path / "m.tflite")
    target = tmp_path / "m.tflite"
    options = options_of(edgeq, monkeypatch, target, "--samples", samples)
    assert (options.method, options.backend, options.threads) == ("auto", "auto", 1)
    assert options.verify == VerifyOptions()

    config = tmp_path / "edgeq.yaml"
    config.write_text(
        "build: {method: mse, backend: cpu, threads: 2}\nsamples: {held_out_ratio: 0.4}\n"
        "verify: {agreement: 0.9, cosine: 0.8, golden: 7}\n"
    )
    from_file = ["--samples", samples, "--config", config]
    options = options_of(edgeq, monkeypatch, target, *from_file)
    assert (options.method, options.backend, options.threads) == ("mse", "cpu", 2)
    assert (options.held_out_ratio, options.golden) == (0.4, 7)
    assert options.verify == VerifyOptions(agreement=0.9, cosine=0.8)

    (tmp_path / "m.yaml").write_text(
        "method: percentile\ntask: classification\ngate: {agreement: 0.7}\n"
    )
    options = options_of(edgeq, monkeypatch, target, *from_file)
    assert options.method == "percentile"
    assert options.verify == VerifyOptions(agreement=0.7, cosine=0.8, task="classification")

    flags = ["--method", "max", "--agreement", "0.5", "--task", "regression",
             "--held-out-ratio", "0.1", "--threads", "3", "--backend", "auto"]  # fmt: skip
    options = options_of(edgeq, monkeypatch, target, *from_file, *flags)
    assert (options.method, options.backend, options.threads) == ("max", "auto", 3)
    assert options.held_out_ratio == 0.1
    assert options.verify == VerifyOptions(agreement=0.5, cosine=0.8, task="regression")


def test_refinement_can_be_switched_off_by_file_and_by_flag(
    edgeq, monkeypatch, model, samples, tmp_path
):
    given = (model, "--samples", samples)
    assert options_of(edgeq, monkeypatch, *given).refine is True
    assert options_of(edgeq, monkeypatch, *given, "--no-refine").refine is False
    config = tmp_path / "edgeq.yaml"
    config.write_text("build: {refine: false}\n")
    assert options_of(edgeq, monkeypatch, *given, "--config", config).refine is False


def test_mixed_precision_can_be_switched_by_file_and_by_flag(
    edgeq, monkeypatch, model, samples, tmp_path
):
    given = (model, "--samples", samples)
    assert options_of(edgeq, monkeypatch, *given).mixed_precision is True
    assert options_of(edgeq, monkeypatch, *given, "--no-mixed").mixed_precision is False
    config = tmp_path / "edgeq.yaml"
    config.write_text("build: {mixed_precision: false}\n")
    from_file = (*given, "--config", config)
    assert options_of(edgeq, monkeypatch, *from_file).mixed_precision is False
    assert options_of(edgeq, monkeypatch, *from_file, "--mixed").mixed_precision is True


def test_the_environment_overrides_the_configuration(edgeq, monkeypatch, model, samples):
    monkeypatch.setenv("EDGEQ_BUILD_METHOD", "mse")
    monkeypatch.setenv("EDGEQ_TOKEN", "for the client, and no key of the configuration")
    assert options_of(edgeq, monkeypatch, model, "--samples", samples).method == "mse"


def test_a_wrong_configuration_is_bad_usage(edgeq, quick, tmp_path):
    config = tmp_path / "edgeq.yaml"
    config.write_text("bild: {}\n")
    ran = edgeq(*quick, "--config", config)
    assert ran.code == 2
    assert "did you mean 'build'" in ran.err


# ---- as the daemon's child


def test_a_child_ends_with_the_process_that_started_it(model, samples, tmp_path):
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', '''\n"
        "import os, time\n"
        "from edgeq.cli.building import _die_with_parent\n"
        "_die_with_parent(os.getppid())\n"
        'print("ready", flush=True)\n'
        "time.sleep(60)\n"
        "'''], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(child)


def test_a_child_whose_parent_died_while_it_was_loaded_builds_nothing():
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = ["-m", "edgeq", "build", "m.tflite", "--samples", "x"]
    child = subprocess.run(
        [sys.executable, *command, f"--exit-with-parent={gone.pid}"],
        capture_output=True,
        timeout=60,
    )
    assert (child.returncode, child.stdout, child.stderr) == (1, b"", b"")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


@pytest.mark.parametrize(("int8_ms", "says"), [(0.5, False), (2.0, True)])
def test_a_person_is_told_where_int8_does_not_pay(
    edgeq, quick, tmp_path, monkeypatch, int8_ms, says
):
    def measured(engines, inputs):
        p50 = {"float": 1.0, "cpu-int8": int8_ms}
        return [Latency(e.kind, p50[e.kind], p50[e.kind], p50[e.kind], 1) for e in engines]

    monkeypatch.setattr(latency, "measure", measured)
    ran = edgeq(*quick, "--out", tmp_path / "b")
    assert ("INT8 is slower than float" in ran.out) is says
