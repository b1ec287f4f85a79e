from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import SampleError
from edgeq.samples import npz
from edgeq.samples.decode import decode_bytes, load_file, load_folder
from edgeq.samples.store import sample_id
from edgeq.tflite.runtime import TensorSpec

IMAGE = TensorSpec("image", (1, 4, 5, 3), np.dtype(np.float32))
STATE = TensorSpec("state", (1, 2), np.dtype(np.float32))


def _npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _decode(content: bytes, filename: str, *inputs: TensorSpec) -> list[Any]:
    return list(decode_bytes(content, filename, inputs))


@pytest.mark.parametrize(
    ("shape", "count"), [((4, 5, 3), 1), ((1, 4, 5, 3), 1), ((7, 4, 5, 3), 7), ((7, 1, 4, 5, 3), 7),
                         ((0, 4, 5, 3), 0)]
)  # fmt: skip
@pytest.mark.parametrize("order", ["C", "F"])
def test_one_sample_or_a_stack_gives_batched_samples(shape: Any, count: int, order: Any) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    samples = _decode(_npy(np.asarray(values, order=order)), "a.npy", IMAGE)
    assert len(samples) == count
    for sample, expected in zip(samples, values.reshape(-1, 1, 4, 5, 3), strict=True):
        np.testing.assert_array_equal(sample.inputs["image"], expected)
        assert sample.id == sample_id({"image": expected})


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 3), max_size=3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sets(st.integers(0, 2)),
)
def test_a_stack_of_any_model_input_comes_back_row_by_row(
    extents: list[int], batch: int, count: int, free: set[int]
) -> None:
    signature = [-1 if i in free else extent for i, extent in enumerate(extents)]
    spec = TensorSpec("x", (batch, *signature), np.dtype(np.float32))
    rows = np.random.default_rng(0).normal(size=(count, batch, *extents)).astype(np.float32)
    samples = _decode(_npy(rows), "a.npy", spec)
    assert [s.inputs["x"].tolist() for s in samples] == [row.tolist() for row in rows]


def test_a_batch_over_one_is_cut_into_groups() -> None:
    spec = TensorSpec("x", (2, 3), np.dtype(np.float32))
    samples = _decode(_npy(np.arange(12, dtype=np.float32).reshape(4, 3)), "a.npy", spec)
    assert [s.inputs["x"].shape for s in samples] == [(2, 3), (2, 3)]
    with pytest.raises(SampleError, match=r"shape \[5, 3\]"):
        _decode(_npy(np.zeros((5, 3), np.float32)), "a.npy", spec)


def test_a_scalar_input_takes_a_scalar_or_a_vector_of_them() -> None:
    spec = TensorSpec("x", (), np.dtype(np.float32))
    assert len(_decode(_npy(np.float32(3)), "a.npy", spec)) == 1
    assert [float(s.inputs["x"]) for s in _decode(_npy(np.ones(3, "f4")), "a.npy", spec)] == [1] * 3


def test_an_npz_holds_the_inputs_by_name() -> None:
    content = _npz(image=np.zeros((3, 4, 5, 3)), state=np.ones((3, 2)), y=np.arange(3))
    samples = _decode(content, "a.npz", IMAGE, STATE)
    assert [s.inputs.keys() for s in samples] == [{"image", "state"}] * 3


@pytest.mark.parametrize("name", ["image", "x"])
def test_an_npz_for_one_input_may_call_it_x(name: str) -> None:
    assert len(_decode(_npz(**{name: np.zeros((3, 4, 5, 3))}), "a.npz", IMAGE)) == 3


@pytest.mark.parametrize("name", ["a/b:0", "50%", "größe", "%2F"])
def test_an_npz_may_spell_a_name_as_numpy_or_as_the_store_does(name: str) -> None:
    spec = TensorSpec(name, (1, 2), np.dtype(np.float32))
    for content in (_npz(**{name: np.ones(2)}), npz.encode({name: np.ones(2)})):
        assert len(_decode(content, "a.npz", spec)) == 1


@pytest.mark.parametrize(
    ("content", "inputs", "reason"),
    [
        (_npz(a=np.zeros((4, 5, 3))), [IMAGE], "holds 'a'; the model takes 'image' or 'x'"),
        (_npz(x=np.zeros((4, 5, 3))), [IMAGE, STATE], "holds 'x'; the model takes 'image'"),
        (_npz(image=np.zeros((2, 4, 5, 3)), state=np.zeros((3, 2))), [IMAGE, STATE], "unequal"),
        (b"PK\x03\x04 torn", [IMAGE], "not a readable .npz"),
        (_npz(image=np.zeros((4, 5, 3)))[:300], [IMAGE], "not a readable .npz"),
        (b"", [IMAGE], "not a readable .npz"),
    ],
)
def test_an_npz_that_does_not_fit_says_what_it_holds(
    content: bytes, inputs: list[TensorSpec], reason: str
) -> None:
    with pytest.raises(SampleError, match=reason) as caught:
        _decode(content, "a.npz", *inputs)
    assert caught.value.message.startswith("a.npz: ")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_npy(np.zeros((1, 4, 5, 4))), r"a.npy: .*\[1, 4, 5, 4\].*the model takes \[1, 4, 5, 3\]"),
        (_npy(np.zeros(3)), r"shape \[3\]"),
        (_npy(np.zeros((7, 4, 5, 3)))[:-1], "ends after"),
        (_npy(np.array([{}])), "plain numbers"),
        (_npy(np.zeros((4, 5, 3), "c8")), "plain numbers"),
        (_npy(np.array(["a"])), "plain numbers"),
        (b"not numpy at all", "NUMPY"),
    ],
)
def test_an_npy_that_does_not_fit_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(SampleError, match=reason) as caught:
        _decode(content, "a.npy", IMAGE)
    assert caught.value.hint


def test_one_array_cannot_feed_two_inputs() -> None:
    with pytest.raises(SampleError, match=r"takes 2 \('image', 'state'\)"):
        _decode(_npy(np.zeros((4, 5, 3))), "a.npy", IMAGE, STATE)


@pytest.mark.parametrize("kind", ["u1", "i2", "f2", "f8", ">f4", "?", "i8"])
def test_values_that_fit_are_cast_to_the_inputs_type(kind: str) -> None:
    values = (np.arange(60) % 2).reshape(4, 5, 3).astype(kind)
    (sample,) = _decode(_npy(values), "a.npy", IMAGE)
    assert sample.inputs["image"].dtype == np.float32
    np.testing.assert_array_equal(sample.inputs["image"][0], values.astype(np.float32))


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (np.int64(2**53 + 1), "f4"),
        (np.float64(1e300), "f4"),
        (np.float32(0.5), "u1"),
        (np.float32(np.nan), "i4"),
        (np.int16(-1), "u1"),
        (np.int64(2), "?"),
    ],
)
def test_values_that_do_not_fit_are_refused(value: Any, target: str) -> None:
    spec = TensorSpec("x", (1, 1), np.dtype(target))
    with pytest.raises(SampleError, match="do not fit input 'x'"):
        _decode(_npy(np.full((1, 1), value)), "a.npy", spec)


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(SampleError, match=r"'\.txt' is unknown"):
        _decode(b"", "a.txt", IMAGE)


# ---- folders


def test_a_folder_is_read_by_name_and_other_files_are_ignored(tmp_path: Path) -> None:
    for name, value in (("b.npy", 2), ("a.NPY", 1), ("c.npz", 3)):
        array = np.full((1, 2), value, np.float32)
        (tmp_path / name).write_bytes(_npz(x=array) if name.endswith("z") else _npy(array))
    for name in ("notes.txt", ".hidden.npy", ".tmp-1-ab-captured.npz", "d.npy.part"):
        (tmp_path / name).write_bytes(b"no")
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "fifo.npy")
    (tmp_path / "dangling.npy").symlink_to("nowhere")
    assert [s.inputs["state"][0, 0] for s in load_folder(tmp_path, [STATE])] == [1, 2, 3]


def test_a_file_that_vanishes_is_skipped(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.npy").write_bytes(_npy(np.full((1, 2), ord(name), np.float32)))
    samples = load_folder(tmp_path, [STATE])
    next(samples)
    (tmp_path / "b.npy").unlink()
    assert [chr(int(s.inputs["state"][0, 0])) for s in samples] == ["c"]


def test_a_bad_file_stops_the_folder_unless_someone_listens(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"")
    (tmp_path / "b.npy").write_bytes(_npy(np.ones(2, np.float32)))
    with pytest.raises(SampleError, match=r"a\.npy"):
        list(load_folder(tmp_path, [STATE]))
    heard: list[SampleError] = []
    assert len(list(load_folder(tmp_path, [STATE], on_bad=heard.append))) == 1
    assert [error.message[:5] for error in heard] == ["a.npy"]


def test_a_missing_folder_is_a_sample_error(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="cannot be read: No such file"):
        list(load_folder(tmp_path / "none", [STATE]))


def test_a_stack_is_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "big.npy"
    np.save(path, np.zeros((1, 2), np.float32))
    with path.open("r+b") as file:  # a header that claims 4 TB over a sparse file of 1 GB
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (500000000000, 2), }"
        file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n")
        file.truncate(1 << 30)
    samples = load_file(path, [STATE])
    assert [next(samples).inputs["state"].tolist() for _ in range(3)] == [[[0, 0]]] * 3
    samples.close()  # type: ignore[attr-defined]


@pytest.mark.shared
def test_real_calibration_data_is_read(shared: Path) -> None:
    spec = TensorSpec("input_1", (1, 96, 96, 3), np.dtype(np.float32))
    samples = list(load_file(shared / "data" / "data" / "vww" / "calib.npz", [spec]))
    assert len(samples) == 64
    assert all(sample.inputs["input_1"].shape == (1, 96, 96, 3) for sample in samples)
