"""edgeq samples NAME show."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from edgeq.samples.image import Preprocessing
from edgeq.samples.sheet import sheet_of_store
from edgeq.samples.store import SampleStore
from tests.observe.markup import Page


@pytest.fixture
def store(tmp_path):
    store = SampleStore(tmp_path / "face")
    for level in (10, 200):
        store.add({"image": np.full((1, 4, 4, 3), level, np.float32)})
    return store


def test_a_daemon_s_samples_become_a_private_page(edgeq, daemon, config, store, tmp_path):
    sheet = {"name": "face", **sheet_of_store(store, Preprocessing(), 0.25, 60)}
    daemon.answers["/edgeq/samples"] = (200, sheet)
    out = tmp_path / "face.html"
    result = edgeq("samples", "face", "show", "--out", out, "--config", config, "--json").json
    assert daemon.asked == [("/edgeq/samples", {"name": "face", "action": "show", "limit": 60})]
    size = out.stat().st_size
    assert result == {"sheet": str(out), "bytes": size, "shown": 2, "total": 2}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sum(tag == "img" for tag, _ in Page(out.read_text()).tags) == 2


def test_a_folder_needs_no_daemon(edgeq, store, tmp_path):
    out = tmp_path / "face.PNG"
    words = ("samples", "face", "show", "--samples", store.directory, "--out", out, "--limit", "1")
    assert (
        edgeq(*words).out == f"{out}: 1 of 2 samples, {out.stat().st_size} bytes; it is private\n"
    )
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_folder_is_read_by_the_sidecar_of_its_model(edgeq, config, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = edgeq("samples", "face", "show", "--samples", store.directory, "--config", config)
    assert ran.code == 0
    assert "pixels as they are" in (tmp_path / "face.samples.html").read_text()


@pytest.mark.parametrize(
    "words",
    [["list", "--out", "x.html"], ["prune", "--limit", "3"], ["list", "--samples", "x"],
     ["show", "--out", "x.gif"], ["show", "--limit", "0"], ["show", "a.npz"]],
)  # fmt: skip
def test_flags_that_make_no_sense_never_reach_the_daemon(words, edgeq, daemon, config):
    ran = edgeq("samples", "face", *words, "--config", config)
    assert (ran.code, ran.out) == (2, "")
    assert daemon.requests == []


def test_a_folder_without_samples_is_an_error(edgeq, tmp_path):
    ran = edgeq("samples", "face", "show", "--samples", tmp_path)
    assert ran.code == 1
    assert "holds no sample of a store" in ran.err
    assert "hint: " in ran.err
