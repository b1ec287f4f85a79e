from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import errors
from edgeq.cli import box
from edgeq.engines import table
from edgeq.engines.cuda.gpu import presence
from edgeq.engines.cuda.gpu.mending import Platform
from edgeq.engines.cuda.gpu.presence import Finding
from edgeq.intake import child
from edgeq.intake.sandbox import PURPOSES, Measure
from edgeq.tflite.runtime import RuntimeVersion
from tests.observe import boards

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick_sandbox(monkeypatch):
    """Doctor's child takes half a second; test_doctor_on_the_sandbox.py lets it run."""
    monkeypatch.setattr(child, "check_sandbox", lambda: tuple(map(Measure, PURPOSES)))


# ---- check-config


def test_the_example_configuration_is_valid(edgeq):
    path = ROOT / "configs/edgeq.yaml"
    ran = edgeq("check-config", path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{path} is valid; models come from /srv/edgeq/models\n"
    answer = {"file": str(path), "valid": True, "cautions": []}
    assert edgeq("check-config", path, "--json").json == answer


def test_a_valid_file_may_be_a_cause_for_caution(edgeq, tmp_path):
    path = tmp_path / "edgeq.yaml"
    path.write_text("server: {metrics_host: 0.0.0.0}")
    ran = edgeq("check-config", path)
    assert ran.code == 0
    assert ran.err.startswith("caution: everyone who reaches '0.0.0.0' may read /metrics")
    (told,) = edgeq("check-config", path, "--json").json["cautions"]
    assert f"caution: {told}\n" == ran.err


def test_a_wrong_key_says_file_line_key_and_the_nearest_valid_one(edgeq, tmp_path):
    path = tmp_path / "edgeq.yaml"
    path.write_text("server:\n  http_prot: 9000\n")
    ran = edgeq("check-config", path)
    assert (ran.code, ran.out) == (2, "")
    assert f"{path}:2: " in ran.err
    assert "key 'server.http_prot' is unknown; did you mean 'server.http_port'?" in ran.err
    result = edgeq("check-config", path, "--json")
    assert result.code == 2
    assert result.json["kind"] == "ConfigError"


@pytest.mark.parametrize("content", ["server: [", "samples: {minimum: -1}", "log: {level: loud}"])
def test_a_wrong_value_is_bad_configuration(content, edgeq, tmp_path):
    path = tmp_path / "edgeq.yaml"
    path.write_text(content)
    assert edgeq("check-config", path).code == 2


def test_a_file_that_is_not_there_is_bad_usage(edgeq, tmp_path):
    assert edgeq("check-config", tmp_path / "no.yaml").code == 2
    ran = edgeq("check-config", tmp_path)
    assert ran.code == 2
    assert "is a folder, not a file" in ran.err


def test_the_environment_does_not_change_what_a_file_says(edgeq, monkeypatch):
    monkeypatch.setenv("EDGEQ_SERVER_HTTP_PORT", "nonsense")
    assert edgeq("check-config", ROOT / "configs/edgeq.yaml").code == 0


# ---- doctor


def test_doctor_says_what_is_usable_and_why_not(edgeq):
    report = edgeq("doctor", "--json").json
    assert set(report) >= {"edgeq", "python", "machine", "cpus", "memory_bytes", "runtime",
                           "devices", "backends"}  # fmt: skip
    backends = {backend["name"]: backend for backend in report["backends"]}
    assert backends["cpu"] == {"name": "cpu", "usable": True, "reason": ""}
    assert all(b["usable"] != bool(b["reason"]) for b in report["backends"])
    text = edgeq("doctor").out
    assert "backend cpu   usable" in text
    assert report["runtime"] in text


def test_doctor_tells_what_cuda_lacks_and_the_command_that_mends_it(edgeq, monkeypatch):
    well = Finding("gpu", True, "/dev/nvhost-gpu")
    closed = Finding("permission", False, "user me may not\x1b[2J", "Run `sudo usermod`.")
    monkeypatch.setattr(presence, "examine", lambda box=None: (well, closed))
    report = edgeq("doctor", "--json").json
    backends = {backend["name"]: backend for backend in report["backends"]}
    assert backends["cuda"]["checks"] == [
        {"check": "gpu", "is_well": True, "message": "/dev/nvhost-gpu", "hint": ""},
        {"check": "permission", "is_well": False, "message": "user me may not\x1b[2J",
         "hint": "Run `sudo usermod`."},
    ]  # fmt: skip
    lines = edgeq("doctor").out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("backend cuda"))
    assert lines[place + 1] == "  ok gpu        /dev/nvhost-gpu"
    assert lines[place + 2] == "  -- permission user me may not\N{REPLACEMENT CHARACTER}[2J"
    assert lines[place + 3].strip() == "Run `sudo usermod`."


def test_doctor_names_the_platform(edgeq, monkeypatch):
    monkeypatch.setattr(box, "read_platform", lambda: Platform(is_jetson=True, jetpack=6))
    assert edgeq("doctor", "--json").json["platform"] == "Jetson, JetPack 6"


def test_doctor_names_the_cost_of_the_fallback_runtime(edgeq, monkeypatch):
    fallback = RuntimeVersion("tflite-runtime", "2.14.0")
    monkeypatch.setattr(box, "runtime_version", lambda: fallback)
    report = edgeq("doctor", "--json").json
    assert report["runtime"] == "tflite-runtime 2.14.0"
    assert "XNNPACK" in report["runtime_note"]


def test_without_any_usable_backend_doctor_exits_1(edgeq, monkeypatch):
    def missing() -> RuntimeVersion:
        raise errors.EngineError("no TFLite runtime is installed")

    monkeypatch.setattr(box, "runtime_version", missing)
    monkeypatch.setattr(table, "runtime_version", missing)
    ran = edgeq("doctor", "--json")
    assert ran.code == 1
    assert ran.json["runtime"] == "none"
    assert not any(backend["usable"] for backend in ran.json["backends"])


def test_doctor_prints_a_drop_in_with_the_devices_that_are_there(edgeq, monkeypatch):
    monkeypatch.setattr(box, "gpu_devices", lambda: ["/dev/nvmap"])
    lines = edgeq("doctor", "--systemd").out.splitlines()
    assert lines[1:] == ["[Service]", "DeviceAllow=", "DeviceAllow=/dev/nvmap rw"]
    text = edgeq("doctor", "--systemd", "--json").json["drop_in"]
    assert text.splitlines() == lines
    assert edgeq("doctor", "--json").json["devices"] == ["/dev/nvmap"]


def test_the_board_is_named_by_the_device_tree(tmp_path):
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    assert box._board(tmp_path) == "NVIDIA Jetson Orin Nano"
    assert box._board(tmp_path / "elsewhere") == ""


def test_doctor_shows_what_the_board_measures_of_itself(tmp_path):
    assert box._sensors(boards.orin(tmp_path)) == [
        "cpu-thermal 48 C", "gpu-thermal 45 C", "tj-thermal 48 C", "17000000.gpu 44% busy",
        "VDD_GPU_SOC 3.19 W", "VDD_CPU_CV 0.80 W",
    ]  # fmt: skip
    assert box._sensors(tmp_path / "elsewhere") == []


# ---- run


def test_run_hands_over_the_file_and_the_environment_without_the_token(
    edgeq, monkeypatch, tmp_path
):
    seen = []

    class Daemon:
        def __init__(self, path, environ):
            seen.append((path, {k: v for k, v in environ.items() if k.startswith("EDGEQ_")}))

        def run(self):
            pass

    monkeypatch.setattr(box, "Daemon", Daemon)
    monkeypatch.setattr(box.log, "configure", lambda *_: None)
    monkeypatch.setenv("EDGEQ_TOKEN", "s3cret")
    monkeypatch.setenv("EDGEQ_LOG_LEVEL", "warning")
    path = tmp_path / "edgeq.yaml"
    path.write_text(f"state_dir: {tmp_path}\n")
    assert edgeq("run", "--config", path).code == 0
    monkeypatch.setenv("EDGEQ_CONFIG", str(path))
    assert edgeq("run").code == 0
    level = {"EDGEQ_LOG_LEVEL": "warning"}
    assert seen == [(path, level), (path, {**level, "EDGEQ_CONFIG": str(path)})]


def test_run_with_a_wrong_configuration_is_bad_usage(edgeq, tmp_path):
    path = tmp_path / "edgeq.yaml"
    path.write_text("sever: {}\n")
    ran = edgeq("run", "--config", path)
    assert ran.code == 2
    assert "did you mean 'server'" in ran.err
