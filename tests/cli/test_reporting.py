"""edgeq report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.bundle import Bundle, write_bundle
from edgeq.explain.explanation import Explanation
from tests.observe.markup import Page


def with_files(bundle: Path, out: Path, **changes: bytes | None) -> Path:
    """A copy of the bundle with other files; None leaves one out."""
    opened = Bundle.open(bundle)
    files = {name: opened.read(name) for name in opened.manifest.files}
    files |= {f"{name}.json": content for name, content in changes.items()}
    kept = {name: content for name, content in files.items() if content is not None}
    write_bundle(out, kept, replace(opened.manifest, files={}))
    return out


def test_a_bundle_gives_one_page(bundle, tmp_path, edgeq):
    out = tmp_path / "digits.html"
    ran = edgeq("report", bundle, "--out", out, "--json")
    assert ran.code == 0
    assert ran.json == {"report": str(out), "bytes": out.stat().st_size}
    page = Page(out.read_text())
    assert "Passed" in page.text
    assert "from the model's first byte to this page" in page.text  # build.json was there
    assert {"svg", "table"} <= {tag for tag, _ in page.tags}
    assert edgeq("report", bundle, "--out", out).out == f"{out}: {out.stat().st_size} bytes\n"


def test_an_old_bundle_without_explain_json_says_so_and_shows_its_tensors(bundle, tmp_path, edgeq):
    old = with_files(bundle, tmp_path / "old", explain=None)
    out = tmp_path / "old.html"
    assert edgeq("report", old, "--out", out).code == 0
    page = Page(out.read_text())
    assert "Not measured: this bundle has no explain.json" in page.text
    assert "build it again to see them" in page.text
    assert "svg" in {tag for tag, _ in page.tags}


def test_what_the_build_explained_is_shown(bundle, tmp_path, edgeq):
    told = Explanation((), unmeasured="the samples were gone").to_json()
    new = with_files(bundle, tmp_path / "new", explain=told)
    assert edgeq("report", new, "--out", tmp_path / "new.html").code == 0
    assert "Not measured: the samples were gone." in (tmp_path / "new.html").read_text()


def test_latency_that_the_verdict_holds_is_shown(bundle, tmp_path, edgeq):
    verdict = json.loads(Bundle.open(bundle).read("verdict.json"))
    rows = [{"engine": "cpu-int8", "p50_ms": 0.125, "p90_ms": 1, "p99_ms": 2}, "no row"]
    content = json.dumps({**verdict, "latency": rows}).encode()
    timed = with_files(bundle, tmp_path / "timed", verdict=content)
    assert edgeq("report", timed, "--out", tmp_path / "timed.html").code == 0
    assert "0.125" in (tmp_path / "timed.html").read_text()


def test_a_bundle_that_was_not_calibrated_here_has_a_page_too(bundle, tmp_path, edgeq):
    opened = Bundle.open(bundle)
    files = {name: opened.read(name) for name in ("float.tflite", "int8.tflite", "golden.npz")}
    write_bundle(tmp_path / "as-is", files, replace(opened.manifest, files={}))
    assert edgeq("report", tmp_path / "as-is", "--out", tmp_path / "as-is.html").code == 0
    text = (tmp_path / "as-is.html").read_text()
    assert "this bundle was not judged" in text
    assert "its model was not calibrated here" in text
    assert "scales of its own" in text


def test_methods_that_the_build_did_not_try_are_measured_on_the_golden_inputs(
    bundle, tmp_path, edgeq
):
    record = json.loads(Bundle.open(bundle).read("build.json"))
    told = json.dumps({**record, "candidates": {}}).encode()
    other = with_files(bundle, tmp_path / "told", build=told)
    out = tmp_path / "told.html"
    assert edgeq("report", other, "--out", out).code == 0
    assert "golden inputs, without any refinement" in out.read_text()
    lost = tmp_path / "lost"
    opened = Bundle.open(other)
    files = {n: opened.read(n) for n in opened.manifest.files if n != "calibration.npz"}
    write_bundle(lost, files, replace(opened.manifest, files={}))
    assert edgeq("report", lost, "--out", out).code == 0
    assert "was not measured in this build" in out.read_text()


@pytest.mark.parametrize("content", [b"{", b"[]"])
@pytest.mark.parametrize("name", ["verdict", "explain", "build"])
def test_a_damaged_file_is_an_error_with_a_hint(bundle, tmp_path, edgeq, name, content):
    broken = with_files(bundle, tmp_path / "broken", **{name: content})
    ran = edgeq("report", broken, "--out", tmp_path / "x.html")
    assert ran.code == 1
    assert f"{name}.json is damaged" in ran.err
    assert "hint: " in ran.err
    assert not (tmp_path / "x.html").exists()


def test_an_altered_bundle_is_not_reported_on(bundle, tmp_path, edgeq):
    shutil.copytree(bundle, tmp_path / "altered")
    (tmp_path / "altered" / "verdict.json").write_bytes(b"{}")
    assert edgeq("report", tmp_path / "altered", "--out", tmp_path / "x.html").code == 1
