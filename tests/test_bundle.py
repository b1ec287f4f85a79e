"""A bundle is wholly there, as it was written, or it is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeq import files as disk
from edgeq.bundle import FORMAT, MANIFEST, Bundle, Golden, Manifest, write_bundle
from edgeq.errors import BundleError

CONTENT = {"float.tflite": b"float model", "int8.tflite": b"int8", "cuda/plan.json": b"{}"}


def manifest(**changes: Any) -> Manifest:
    given = {
        "name": "face",
        "engine": "cpu-int8",
        "backend": "cpu",
        "method": "entropy",
        "model_sha256": "ab" * 32,
        "samples": 64,
        "runtime": "ai-edge-litert 2.3.0",
        "edgeq": "0.1.0",
        "created": 1.5,
        "float_ops": ({"index": 3, "name": "y", "reason": "no INT8 kernel"},),
    }
    return Manifest(**{**given, **changes})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundles" / "face" / "1", CONTENT, manifest())


def edit_manifest(bundle: Bundle, **changes: Any) -> None:
    path = bundle.directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_was_written_is_what_is_opened(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.directory)
    assert opened == bundle
    assert {name: opened.read(name) for name in CONTENT} == CONTENT
    assert opened.manifest.float_ops == manifest().float_ops


def test_the_manifest_lists_every_file_with_its_digest(bundle: Bundle) -> None:
    listed = json.loads((bundle.directory / MANIFEST).read_bytes())["files"]
    assert listed == {
        name: {"sha256": disk.sha256_bytes(data), "bytes": len(data)}
        for name, data in CONTENT.items()
    }


def test_a_bundle_has_only_what_its_manifest_lists(bundle: Bundle) -> None:
    (bundle.directory / "stray").write_bytes(b"x")
    opened = Bundle.open(bundle.directory)
    assert opened.has("cuda/plan.json")
    assert not opened.has("stray")
    with pytest.raises(BundleError, match=r"no file 'stray'; it has \['cuda/plan.json'"):
        opened.read("stray")


def test_an_existing_bundle_is_never_overwritten(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="never overwritten"):
        write_bundle(bundle.directory, {"float.tflite": b"other"}, manifest())
    assert Bundle.open(bundle.directory).read("float.tflite") == b"float model"


def test_a_bundle_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, publish = tmp_path / "1", disk.publish_directory

    def publish_second(source: Path, directory: Path) -> None:
        directory.mkdir()
        (directory / "first").write_bytes(b"")
        publish(source, directory)

    monkeypatch.setattr(disk, "publish_directory", publish_second)
    with pytest.raises(BundleError, match="never overwritten"):
        write_bundle(target, CONTENT, manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert [path.name for path in target.iterdir()] == ["first"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "publish_directory", refuse)
    with pytest.raises(BundleError, match="No space left on device") as caught:
        write_bundle(tmp_path / "1", CONTENT, manifest())
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_at_the_target_until_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = disk.publish_directory
    seen: list[bool] = []

    def watched(source: Path, target: Path) -> None:
        found = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}
        seen.append(found == {*CONTENT, MANIFEST} and not target.exists())
        publish(source, target)

    monkeypatch.setattr(disk, "publish_directory", watched)
    write_bundle(tmp_path / "1", CONTENT, manifest())
    assert seen == [True]


@pytest.mark.parametrize("name", ["../out", "/etc/out", "cuda/../../out", "", "."])
def test_a_file_name_never_leads_out_of_the_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="outside its folder"):
        write_bundle(tmp_path / "face" / "1", {name: b"x"}, manifest())
    assert list((tmp_path / "face").iterdir()) == []


def test_a_manifest_that_leads_out_is_refused(bundle: Bundle) -> None:
    outside = bundle.directory.parent / "outside"
    outside.write_bytes(b"x")
    entry = {"sha256": disk.sha256_bytes(b"x"), "bytes": 1}
    edit_manifest(bundle, files={"../outside": entry})
    with pytest.raises(BundleError, match="outside its folder"):
        Bundle.open(bundle.directory)


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    (bundle.directory / "int8.tflite").unlink()
    with pytest.raises(BundleError, match=r"'int8.tflite' .* No such file"):
        Bundle.open(bundle.directory)


def test_a_cut_file_is_named_with_both_sizes(bundle: Bundle) -> None:
    (bundle.directory / "float.tflite").write_bytes(b"float")
    with pytest.raises(BundleError, match=r"'float.tflite' .* has 5 bytes; expected 11"):
        Bundle.open(bundle.directory)


def test_an_altered_file_is_named_with_both_digests(bundle: Bundle) -> None:
    (bundle.directory / "float.tflite").write_bytes(b"float m0del")
    with pytest.raises(BundleError, match="was altered") as caught:
        Bundle.open(bundle.directory)
    for content in (b"float m0del", b"float model"):
        assert disk.sha256_bytes(content) in caught.value.message
    assert caught.value.hint


def test_a_file_altered_after_opening_is_not_read(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.directory)
    (bundle.directory / "float.tflite").write_bytes(b"float m0del")
    with pytest.raises(BundleError, match="was altered"):
        opened.read("float.tflite")


def test_a_newer_format_is_refused_with_both_numbers(bundle: Bundle) -> None:
    edit_manifest(bundle, format=FORMAT + 1)
    with pytest.raises(
        BundleError, match=f"format {FORMAT + 1}; .* reads formats up to {FORMAT}"
    ) as caught:
        Bundle.open(bundle.directory)
    assert "Update edgeq" in caught.value.hint


def test_an_unknown_key_of_the_same_format_is_ignored(bundle: Bundle) -> None:
    edit_manifest(bundle, remark="written by a later edgeq")
    assert Bundle.open(bundle.directory) == bundle


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"format": "1"}', b'{"format": 1, "files": []}'],
)
def test_a_damaged_manifest_is_a_bundle_error(bundle: Bundle, content: bytes) -> None:
    (bundle.directory / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(bundle.directory)


@given(st.data())
def test_any_cut_of_the_manifest_is_a_bundle_error(data: st.DataObject) -> None:
    content = manifest(files={}).to_json()
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(BundleError):
        Manifest.from_json(content[:cut])


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a bundle: manifest.json .*No such file"):
        Bundle.open(tmp_path)


# Golden answers.

ANY_ARRAY = arrays.arrays(
    st.sampled_from([np.dtype("f4"), np.dtype("i1"), np.dtype("u1"), np.dtype("?")]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=3),
)
RUN = st.dictionaries(st.text(max_size=12), ANY_ARRAY, max_size=3)


def golden_of(*values: float, dtype: str = "f4") -> Golden:
    return Golden(({"x": np.zeros(1, "f4")},), ({"y": np.array(values, dtype)},))


def answering(*values: float, dtype: str = "f4") -> Any:
    return lambda inputs: {"y": np.array(values, dtype)}


@given(st.lists(st.tuples(RUN, RUN), max_size=3))
def test_golden_answers_survive_the_disk_bit_for_bit(runs: list[tuple[Any, Any]]) -> None:
    golden = Golden(tuple(run[0] for run in runs), tuple(run[1] for run in runs))
    again = Golden.from_npz(golden.to_npz())
    for before, after in ((golden.inputs, again.inputs), (golden.outputs, again.outputs)):
        assert [list(run) for run in before] == [list(run) for run in after]
        for old, new in zip(before, after, strict=True):
            for name in old:
                assert (old[name].dtype, old[name].shape) == (new[name].dtype, new[name].shape)
                assert old[name].tobytes() == new[name].tobytes()


@given(RUN)
def test_an_engine_that_repeats_itself_reproduces_its_golden_answers(run: Any) -> None:
    assert Golden(({},), (run,)).mismatch(lambda inputs: run) == ""


def test_each_golden_input_is_given_to_the_engine() -> None:
    inputs = tuple({"x": np.full(2, i, "f4")} for i in range(3))
    golden = Golden(inputs, tuple({"y": run["x"] * 2} for run in inputs))

    def double(given: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": given["x"] * 2}

    assert golden.mismatch(double) == ""
    assert "golden input 1" in golden.mismatch(lambda given: {"y": given["x"] * 0})


def test_a_float_may_differ_by_a_thousandth_of_the_largest_magnitude() -> None:
    golden = golden_of(-100.0, 0.0, 1.0)
    assert golden.mismatch(answering(-100.0, 0.099, 1.0)) == ""
    assert golden.mismatch(answering(-100.0, 0.101, 1.0)) == (
        "output 'y' of golden input 0 is 0.10100000351667404 at [1]; expected 0.0 within 0.1 "
        "(1 of 3 values differ)"
    )


@pytest.mark.parametrize(
    ("expected", "actual"),
    [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.inf, -np.inf), (1.0, np.inf), (0.0, 0.1)],
)
def test_what_is_not_finite_must_stand_where_it_stood(expected: float, actual: float) -> None:
    assert golden_of(1.0, expected).mismatch(answering(1.0, expected)) == ""
    assert golden_of(1.0, expected).mismatch(answering(1.0, actual))


def test_an_output_of_zeros_is_reproduced_by_zeros_only() -> None:
    assert golden_of(0.0, 0.0).mismatch(answering(0.0, -0.0)) == ""
    assert golden_of(0.0, 0.0).mismatch(answering(0.0, 1e-4))


def test_an_integer_must_be_equal() -> None:
    golden = golden_of(1000, 2000, dtype="i8")
    assert golden.mismatch(answering(1000, 2000, dtype="i8")) == ""
    assert "is 1001 at [0]; expected 1000" in golden.mismatch(answering(1001, 2000, dtype="i8"))


def test_a_missing_output_or_another_shape_or_type_is_a_mismatch() -> None:
    golden = golden_of(1.0, 2.0)
    assert "'y' of golden input 0 is missing" in golden.mismatch(lambda inputs: {})
    assert "is float32 [1]; expected float32 [2]" in golden.mismatch(answering(1.0))
    assert "is float64 [2]" in golden.mismatch(answering(1.0, 2.0, dtype="f8"))


def test_python_objects_are_never_written() -> None:
    with pytest.raises(BundleError, match="it must hold numbers"):
        Golden(({"x": np.array(["a", None], object)},), ({},)).to_npz()


@given(st.binary(max_size=200))
def test_damaged_golden_answers_are_a_bundle_error(content: bytes) -> None:
    with pytest.raises(BundleError, match="damaged"):
        Golden.from_npz(content)


@given(st.data())
def test_cut_or_changed_golden_answers_are_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(golden_of(1.0, 2.0).to_npz())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BundleError):
        Golden.from_npz(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
