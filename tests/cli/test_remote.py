from __future__ import annotations

from typing import Any

import pytest

from edgeq.tls import TlsOptions, server_context
from tests.certificates import Authority

STATUS: dict[str, Any] = {
    "started": 0.0,
    "models": {
        "face": {
            "live": {"version": "3", "engine": "cpu-int8", "since": 0.0, "method": "entropy"},
            "state": "building", "reason": "building from 64 samples",
            "progress": {"stage": "calibrate", "done": 3, "total": 48},
            "previous": "2", "pinned": False,
            "drift": {"active": True, "reason": "input 'x': lower", "samples": 200, "tensors": []},
            "samples": {"fit": 48, "held_out": 16, "bytes": 1, "minimum": 64, "maximum": 1024},
            "latency": {"count": 12, "p50_ms": 0.5, "p99_ms": 1.25},
        },
        "hand": {
            "live": None, "state": "waiting", "reason": "", "progress": None, "previous": None,
            "pinned": False, "drift": None, "latency": None,
            "samples": {"fit": 0, "held_out": 0, "bytes": 0, "minimum": 64, "maximum": 1024},
        },
    },
    "events": [],
    "quarantine": [{"id": "cut-1a2b", "stage": "structure", "time": 0.0, "error": "cut"}],
}  # fmt: skip
HISTORY: dict[str, Any] = {
    "name": "face", "live": "2", "pinned": False,
    "versions": [
        {"version": 2, "state": "committed", "engine": "cpu-int8", "method": "entropy",
         "created": 0.0, "reason": ""},
        {"version": 1, "state": "retired", "engine": "float", "method": "float",
         "created": 0.0, "reason": "was replaced"},
    ],
    "events": [{"time": 0.0, "version": None, "kind": "accepted", "message": "a drop"}],
}  # fmt: skip
ENTRY = {"id": "cut-1a2b", "name": "cut", "stage": "structure", "time": 0.0, "error": "cut short",
         "hint": "Copy it again."}  # fmt: skip

COMMANDS: list[tuple[list[str], str, dict[str, Any], Any]] = [
    (["rollback", "face"], "rollback", {"name": "face", "to": None},
     {"name": "face", "version": "1", "engine": "float"}),
    (["rollback", "face", "--to", "3"], "rollback", {"name": "face", "to": "3"},
     {"name": "face", "version": "3", "engine": "float"}),
    (["pin", "face"], "pin", {"name": "face"}, {"name": "face", "pinned": True, "version": "3"}),
    (["unpin", "face"], "unpin", {"name": "face"},
     {"name": "face", "pinned": False, "version": "3"}),
    (["recalibrate", "face"], "recalibrate", {"name": "face"},
     {"name": "face", "samples": 64, "state": "building"}),
    (["history", "face"], "history", {"name": "face"}, HISTORY),
    (["quarantine"], "quarantine", {"action": "list", "id": None}, {"entries": [ENTRY]}),
    (["quarantine", "list"], "quarantine", {"action": "list", "id": None}, {"entries": []}),
    (["quarantine", "show", "cut-1a2b"], "quarantine", {"action": "show", "id": "cut-1a2b"}, ENTRY),
    (["quarantine", "retry", "cut-1a2b"], "quarantine", {"action": "retry", "id": "cut-1a2b"},
     {"id": "cut-1a2b", "action": "retry"}),
    (["quarantine", "rm", "cut-1a2b"], "quarantine", {"action": "rm", "id": "cut-1a2b"},
     {"id": "cut-1a2b", "action": "rm"}),
    (["samples", "face", "list"], "samples", {"name": "face", "action": "list"},
     {"name": "face", "bytes": 9, "samples": [
         {"id": "ab" * 32, "origin": "added", "held_out": True, "bytes": 9, "time": 0.0}]}),
    (["samples", "face", "prune"], "samples", {"name": "face", "action": "prune"},
     {"name": "face", "removed": 5}),
    (["samples", "face", "erase"], "samples", {"name": "face", "action": "erase"},
     {"name": "face", "removed": 5, "kept": ["bundles/face/2/golden.npz"]}),
    (["resume"], "resume", {}, {"resumed": True}),
    (["resume"], "resume", {}, {"resumed": False}),
    (["reload"], "reload", {}, {"applied": ["build.method"], "needs_restart": ["server"]}),
    (["reload", "--wait"], "reload", {}, {"applied": [], "needs_restart": []}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "path", "arguments", "answer"), COMMANDS)
def test_a_command_reaches_the_daemon_through_its_socket(
    words, path, arguments, answer, edgeq, daemon, config
):
    daemon.answers[f"/edgeq/{path}"] = (200, answer)
    ran = edgeq(*words, "--config", config, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json == answer
    assert daemon.asked == [(f"/edgeq/{path}", arguments)]
    text = edgeq(*words, "--config", config)
    assert text.code == 0
    assert text.out


@pytest.mark.parametrize(("words", "path", "arguments", "answer"), COMMANDS[:3])
def test_a_command_reaches_the_daemon_over_tcp_with_the_token(
    words, path, arguments, answer, edgeq, daemon, monkeypatch
):
    daemon.token = "s3cret"
    daemon.answers[f"/edgeq/{path}"] = (200, answer)
    refused = edgeq(*words, "--url", daemon.url, "--json")
    assert refused.code == 1
    assert refused.json == {
        "error": "the command needs a token", "hint": "Set EDGEQ_TOKEN.", "kind": "DaemonError",
    }  # fmt: skip
    monkeypatch.setenv("EDGEQ_TOKEN", "s3cret")
    assert edgeq(*words, "--url", daemon.url, "--json").json == answer


def test_the_token_may_come_from_a_file(edgeq, daemon, tmp_path, monkeypatch):
    daemon.token, daemon.answers["/edgeq/status"] = "s3cret", (200, STATUS)
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    monkeypatch.setenv("EDGEQ_TOKEN", "another")
    ran = edgeq("status", "--url", daemon.url, "--token-file", path, "--json")
    assert ran.json == STATUS
    ran = edgeq("status", "--url", daemon.url, "--token-file", tmp_path / "none")
    assert (ran.code, ran.out) == (2, "")
    assert f"--token-file {tmp_path}/none cannot be read" in ran.err


def test_a_daemon_behind_tls_is_reached_with_its_authority_and_a_certificate(
    edgeq, daemon, tmp_path
):
    daemon.answers["/edgeq/status"] = (200, STATUS)
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client", is_client=True)
    context = server_context(
        TlsOptions(server.cert_file, server.key_file, authority.ca_file, "required")
    )
    flags = ["--ca", authority.ca_file, "--cert", client.cert_file, "--key", client.key_file]
    with daemon.behind_tls(context) as url:
        assert edgeq("status", "--url", url, *flags, "--json").json == STATUS
        untrusting = edgeq("status", "--url", url)
        assert untrusting.code == 1
        assert "its certificate is not trusted" in untrusting.err
        assert "--ca" in untrusting.err
        nameless = edgeq("status", "--url", url, *flags[:2])
        assert nameless.code == 1
        assert f"no daemon answers at {url}: " in nameless.err


def test_the_configuration_may_come_from_the_environment(edgeq, daemon, config, monkeypatch):
    daemon.answers["/edgeq/status"] = (200, STATUS)
    monkeypatch.setenv("EDGEQ_CONFIG", str(config))
    monkeypatch.setenv("EDGEQ_TOKEN", "for another box")  # no key of a configuration
    assert edgeq("status", "--json").json == STATUS


def test_status_shows_each_model_on_a_line(edgeq, daemon, config):
    daemon.answers["/edgeq/status"] = (200, STATUS)
    header, face, hand, *rest = edgeq("status", "--config", config).out.splitlines()
    assert header.split()[:5] == ["model", "state", "version", "engine", "method"]
    assert face.split()[:7] == ["face", "building", "3", "cpu-int8", "entropy", "0.50", "64/64"]
    assert face.endswith("calibrate 3/48; input 'x': lower; building from 64 samples")
    assert hand.split() == ["hand", "waiting", "-", "-", "-", "0/64"]
    assert rest[-1] == "1 drops in quarantine: edgeq quarantine list"


def test_status_says_that_edgeq_only_serves_and_how_that_ends(edgeq, daemon, config):
    safe_mode = {"reason": "edgeq died 3 times", "ends_in_s": 1500.0}
    daemon.answers["/edgeq/status"] = (200, {**STATUS, "safe_mode": safe_mode})
    ran = edgeq("status", "--config", config)
    assert "edgeq died 3 times; it ends in 25 min" in ran.out
    assert "edgeq resume" in ran.out


def test_history_marks_the_live_version(edgeq, daemon, config):
    daemon.answers["/edgeq/history"] = (200, HISTORY)
    out = edgeq("history", "face", "--config", config).out
    assert "*  2        committed" in out
    assert "was replaced" in out
    assert "a drop" in out


def test_history_without_a_name_is_that_of_every_model(edgeq, daemon, config):
    daemon.answers["/edgeq/status"] = (200, STATUS)
    daemon.answers["/edgeq/history"] = (200, HISTORY)
    result = edgeq("history", "--config", config, "--json").json
    assert result == {"models": {"face": HISTORY, "hand": HISTORY}}
    assert daemon.asked[1:] == [
        ("/edgeq/history", {"name": "face"}), ("/edgeq/history", {"name": "hand"}),
    ]  # fmt: skip
    assert "-- hand" in edgeq("history", "--config", config).out


def test_added_samples_are_summed_over_the_files(edgeq, daemon, config, tmp_path):
    daemon.answers["/edgeq/samples/face"] = (200, {"name": "face", "added": 2, "stored": 7})
    for name in ("a.npz", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    files = [tmp_path / "a.npz", tmp_path / "b.png"]
    result = edgeq("samples", "face", "add", *files, "--config", config, "--json").json
    assert result == {"name": "face", "added": 4, "stored": 7}
    assert [body for _, _, _, body in daemon.requests] == [b"a.npz", b"b.png"]
    assert edgeq("samples", "face", "add", *files, "--config", config).out == "4 added, 7 stored\n"


@pytest.mark.parametrize(
    "words",
    [["samples", "face", "add"], ["samples", "face", "list", "a.npz"],
     ["samples", "face", "prune", "a.npz"], ["samples", "face", "add", "missing.npz"],
     ["quarantine", "show"], ["quarantine", "retry"], ["quarantine", "rm"],
     ["quarantine", "list", "cut-1a2b"], ["status", "--url", "ftp://box"],
     ["status", "--url", "http://box", "--ca", "ca.pem"],
     ["status", "--url", "https://box", "--key", "k.pem"]],
)  # fmt: skip
def test_a_command_that_makes_no_sense_never_reaches_the_daemon(words, edgeq, daemon, config):
    ran = edgeq(*words, "--config", config)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("edgeq: ")
    assert "\nhint: " in ran.err
    assert daemon.requests == []


def test_a_refusal_is_told_with_its_hint(edgeq, daemon, config):
    daemon.answers["/edgeq/pin"] = (404, {"error": "model 'x' is unknown", "hint": "See status."})
    ran = edgeq("pin", "x", "--config", config)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "edgeq: model 'x' is unknown\nhint: See status.\n"


def test_without_a_daemon_it_says_how_to_start_one(edgeq, tmp_path):
    (tmp_path / "edgeq.yaml").write_text(f"state_dir: {tmp_path}\n")
    ran = edgeq("status", "--config", tmp_path / "edgeq.yaml", "--json")
    assert ran.code == 1
    assert ran.json["kind"] == "DaemonError"
    assert str(tmp_path / "edgeq.sock") in ran.json["error"]
    assert "edgeq run" in ran.json["hint"]


def test_what_the_daemon_says_cannot_drive_the_terminal(edgeq, daemon, config):
    hostile = {**ENTRY, "error": "\x1b[2Jgone"}
    daemon.answers["/edgeq/quarantine"] = (200, hostile)
    assert "\x1b" not in edgeq("quarantine", "show", "x", "--config", config).out
    daemon.answers["/edgeq/quarantine"] = (500, {"error": "\x1b[2Jgone", "hint": "\x1b[2J"})
    assert "\x1b" not in edgeq("quarantine", "show", "x", "--config", config).err
