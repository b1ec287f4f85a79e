from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tools.calibration_bench import bench as bench_module
from tools.calibration_bench import children, environments
from tools.calibration_bench.bench import Options, Row, bench
from tools.calibration_bench.cases import OWN_CALIBRATION, case_of_files, own_cases, write_samples
from tools.calibration_bench.children import SCRIPTS, Child, Report
from tools.calibration_bench.cost import FEW, MANY, Cost, cost_table
from tools.calibration_bench.environments import REQUIREMENTS, MissingEnvironment, python_of
from tools.calibration_bench.peers import CALIBRATE_ONLY, PEERS, Peer, chosen
from tools.calibration_bench.program import finite, make_parser, named_file
from tools.calibration_bench.table import table_of

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder of peers' scripts, beside the real `measured.py`."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "measured.py").write_bytes((SCRIPTS / "measured.py").read_bytes())
    monkeypatch.setattr(children, "SCRIPTS", folder)

    def write(name: str, body: str) -> str:
        text = "from measured import main\ndef work(job, notes):\n"
        (folder / name).write_text(text + textwrap.indent(body, "    ") + "\nmain(work)\n")
        return name

    return write


@pytest.fixture
def run_child(tmp_path):
    def run(script: str, limit_s: float = 30.0) -> Report:
        child = Child(tmp_path, 1, limit_s)
        return child.run(PYTHON, script, tmp_path / "model", [], tmp_path / "out.tflite")

    return run


def test_every_peer_has_its_script_and_its_environment():
    for peer in PEERS:
        assert (SCRIPTS / peer.script).is_file()
        assert peer.environment is None or peer.environment in REQUIREMENTS
        stems = {peer.stem(setting) for setting in peer.settings}
        assert len(stems) == len(peer.settings)


def test_peers_are_chosen_by_name_in_the_table_s_order():
    assert chosen("") == PEERS
    assert [peer.name for peer in chosen("nncf, edgeq")] == ["edgeq", "nncf"]
    with pytest.raises(SystemExit, match="no peer is called 'ncnn'"):
        chosen("ncnn")


def test_a_child_s_report_holds_its_figures(scripts, run_child):
    report = run_child(scripts("fine.py", "notes.details['threads'] = job.threads"))
    assert report.is_ok
    assert report.details == {"threads": 1}
    assert report.seconds is not None
    assert "python" in report.versions


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise ValueError('no such op')", "failed", "ValueError: no such op"),
        ("import os; os.kill(os.getpid(), 11)", "crashed", "killed by SIGSEGV"),
        ("import sys; sys.exit('gone')", "crashed", "gone"),
    ],
)
def test_a_child_that_fails_says_why(scripts, run_child, body, status, reason):
    report = run_child(scripts("bad.py", body))
    assert (report.status, report.reason) == (status, reason)


def test_a_child_that_hangs_is_killed_with_its_own_children(scripts, run_child, tmp_path):
    body = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
child.wait()
"""
    report = run_child(scripts("hangs.py", body), limit_s=1.0)
    assert (report.status, report.reason) == ("timeout", "not done after 1 s")
    state = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    for _ in range(100):
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the grandchild is still running")


def test_an_environment_with_what_is_wanted_is_used_as_it_is(tmp_path, monkeypatch):
    commands: list[list[str]] = []
    monkeypatch.setattr(environments, "_run", commands.append)
    (tmp_path / "nncf/bin").mkdir(parents=True)
    python = tmp_path / "nncf/bin/python"
    python.touch()
    assert python_of("nncf", tmp_path) == python
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert python_of("nncf", tmp_path) == python
    assert len(commands) == 2
    monkeypatch.setattr(environments, "REQUIREMENTS", {"nncf": ("nncf==3.5.0",)})
    python_of("nncf", tmp_path)
    assert commands[-1][-1] == "nncf==3.5.0"


def test_a_package_that_cannot_be_installed_is_told_in_one_line():
    script = "import sys; print('noise\\nERROR: No such\\nmore', file=sys.stderr); sys.exit(1)"
    with pytest.raises(MissingEnvironment, match=r"^No such$"):
        environments._run([sys.executable, "-c", script])
    with pytest.raises(MissingEnvironment, match="No such file"):
        environments._run(["/nowhere/python"])


def test_the_repository_s_own_models_come_with_samples_that_are_not_scored(tmp_path, digits):
    cases = own_cases(tmp_path)
    assert [case.model.name for case in cases] == ["digits.tflite", "digits_v2.tflite"]
    (written,) = write_samples(cases[0], tmp_path)
    with np.load(digits / "digits_samples.npz") as archive:
        given, rest = np.split(archive["x"], [OWN_CALIBRATION])
    assert np.array_equal(np.load(written)[:, 0], given)
    frames: list[np.ndarray] = []
    score = cases[0].evaluation.score(lambda frame: [frames.append(frame[0]) or np.zeros((1, 10))])
    assert score is not None
    assert np.array_equal(np.concatenate(frames), rest)


def test_data_without_labels_is_compared_but_not_scored(tmp_path, digits):
    np.savez(tmp_path / "data.npz", x=np.ones((3, 16, 16, 1), np.float32))
    np.save(tmp_path / "samples.npy", np.ones((2, 16, 16, 1), np.float32))
    model = digits / "digits.tflite"
    files = (tmp_path / "samples.npy", tmp_path / "data.npz")
    case = case_of_files("own", model, *files, tmp_path)
    assert case.evaluation.score(lambda frame: [np.zeros((1, 10))]) is None
    assert [path.name for path in case.samples.iterdir()] == ["samples.npy"]


def rows_of(peers: list[Peer], tmp_path: Path, keep: Path | None = None) -> list[Row]:
    (tmp_path / "work").mkdir()
    case = own_cases(tmp_path)[0]
    options = Options(tmp_path / "environments", 1, 60.0, 50, keep)
    return list(bench(case, peers, options, tmp_path / "work"))


def test_a_tool_that_copies_the_float_model_loses_nothing(scripts, tmp_path):
    script = scripts("copies.py", "job.out.write_bytes(job.model.read_bytes())")
    reference, row = rows_of([Peer("copy", script, ("a",), "tflite", None)], tmp_path, tmp_path)
    assert (reference.tool, reference.metric) == ("float", "top-1")
    assert (row.sqnr_db, row.agreement, row.delta, row.delta_se) == (float("inf"), 1.0, 0.0, 0.0)
    assert row.float_ops == row.weighted_ops == 7
    assert row.notes == ("left every op with weights in float",)
    assert json.loads(json.dumps(finite(asdict(row)), allow_nan=False))["sqnr_db"] is None
    assert (tmp_path / "digits/copy.tflite").read_bytes() == (
        ROOT / "tests/data/digits.tflite"
    ).read_bytes()


def test_nothing_that_goes_wrong_ends_the_benchmark(scripts, tmp_path, monkeypatch):
    def no_python(name: str, folder: Path) -> Path:
        raise MissingEnvironment("no index")

    monkeypatch.setattr(bench_module, "python_of", no_python)
    refuses = scripts("refuses.py", "raise ValueError('no signature')")
    torn = scripts("torn.py", "job.out.write_bytes(b'TFL3')")
    found = rows_of(
        [
            Peer("refuses", refuses, ("",), "tflite", None),
            Peer("torn", torn, ("",), "tflite", None),
            Peer("absent", refuses, ("",), "tflite", "tensorflow"),
            Peer("unconverted", refuses, ("",), "onnx", "onnxruntime"),
        ],
        tmp_path,
    )
    assert [row.status for row in found] == [
        "ok", "failed", "does not run", "no environment", "failed",
    ]  # fmt: skip
    assert found[1].reason == "ValueError: no signature"
    assert found[4].reason == "no tf2onnx to convert the model: no index"
    text = table_of(found)
    assert "no environment: no index" in text
    assert len(text.splitlines()) == 2 + len(found)


@pytest.mark.slow
def test_edgeq_s_own_rows_come_from_its_commands(tmp_path):
    settings = ("max", CALIBRATE_ONLY)
    peer = Peer("edgeq", "edgeq_command.py", settings, "tflite", None)
    _, plain, only = rows_of([peer], tmp_path)
    assert [row.status for row in (plain, only)] == ["ok"] * 2, (plain, only)
    assert plain.details["method"] == "max"
    assert not plain.details["refined"]
    assert (plain.float_ops, plain.weighted_ops) == (0, 7)
    assert plain.agreement is not None
    assert plain.agreement > 0.95
    assert plain.sqnr_db is not None
    assert plain.sqnr_db > 25
    assert (only.bytes, only.sqnr_db) == (None, None)


@pytest.mark.slow
def test_the_cost_of_calibration_is_measured(tmp_path, digits):
    (samples,) = write_samples(own_cases(tmp_path)[0], tmp_path)
    child, reports = Child(tmp_path, 1, 60.0), {}
    for setting in ("time:64", "time:512", f"memory:{FEW}", f"memory:{MANY}", "search"):
        scaled = {"time:512": "time:8", f"memory:{MANY}": "memory:128"}.get(setting, setting)
        reports[setting] = child.run(
            PYTHON, "edgeq_cost.py", digits / "digits.tflite", [samples],
            tmp_path / f"{setting[:6]}.none", setting=scaled,
        )  # fmt: skip
    cost = Cost("digits", reports)
    assert not cost.failures
    assert cost.detail("time:512", "samples") == 8
    ratio, searched = cost.memory_ratio, cost.detail("search", "tensors")
    assert ratio is not None
    assert 0.8 < ratio < 1.3
    assert searched is not None
    assert searched >= 10
    assert cost_table([cost]).count("\n") == 1


def test_a_cost_that_was_not_measured_is_left_blank():
    lost = {s: Report("timeout", "late") for s in ("time:64", "time:512", "memory:64", "search")}
    cost = Cost("big", {**lost, f"memory:{MANY}": Report("timeout", "late")})
    assert cost.memory_ratio is None
    assert "memory:4096: timeout: late" in cost_table([cost])


def test_models_are_named_or_take_their_file_s_name(digits):
    path = digits / "digits.tflite"
    assert named_file(f"mine={path}") == ("mine", path)
    assert named_file(str(path)) == ("digits", path)
    parser = make_parser("")
    for wrong in (f"a b={path}", "mine=/nowhere.tflite"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--model", wrong])


def test_the_program_runs_as_a_file_and_prints_one_json_object(tmp_path):
    (tmp_path / "environments").write_text("")  # a file: no environment can be made in it
    done = subprocess.run(
        [PYTHON, ROOT / "tools/bench_calibrate.py", "--json", "--peers", "tensorflow",
         "--environments", tmp_path / "environments"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["machine"]["edgeq"]
    assert [row["tool"] for row in told["rows"]] == ["float", "tensorflow"] * 2
    assert told["rows"][1]["status"] == "no environment"
