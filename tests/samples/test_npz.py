from __future__ import annotations

import io
import pickle
import random
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.samples import npz

NAMES = st.text(max_size=20) | st.sampled_from(
    ["file", "a/b:0", "..", "/etc/x", "a\\b", "a\0b", "a.npy", "a", "%2F", "", "größe", "\ud800"]
)
ARRAYS = hnp.arrays(
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.array_shapes(min_dims=0, max_dims=4, max_side=4, min_side=0),
)


@given(st.dictionaries(NAMES, ARRAYS, max_size=4))
def test_decode_returns_what_encode_was_given(arrays: dict[str, Any]) -> None:
    decoded = npz.decode(npz.encode(arrays))
    assert decoded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert decoded[name].dtype == array.dtype
        np.testing.assert_array_equal(decoded[name], array)


def test_ordinary_names_are_read_by_numpy(tmp_path: Any) -> None:
    path = tmp_path / "sample.npz"
    path.write_bytes(npz.encode({"serving/input:0": np.arange(6.0).reshape(2, 3)}))
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["serving/input:0"], np.arange(6.0).reshape(2, 3))


def test_a_file_that_numpy_compressed_is_read() -> None:
    content = io.BytesIO()
    np.savez_compressed(content, a=np.ones((2, 2), np.float32, order="F"), b=np.arange(3))
    decoded = npz.decode(content.getvalue())
    np.testing.assert_array_equal(decoded["a"], np.ones((2, 2)))
    np.testing.assert_array_equal(decoded["b"], [0, 1, 2])


def test_the_same_arrays_give_the_same_bytes() -> None:
    one, two = np.ones(3), np.zeros(2)
    assert npz.encode({"a": one, "b": two}) == npz.encode({"b": two, "a": one})


def test_damaged_bytes_raise_damaged_error_and_nothing_else() -> None:
    content = npz.encode({"a": np.arange(40, dtype=np.float32), "b": np.arange(3)})
    choose = random.Random(0)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(choose.randint(1, 6)):
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        torn = bytes(damaged[: choose.randint(0, len(damaged))])
        for attempt in (bytes(damaged), torn):
            try:
                npz.decode(attempt)
            except npz.DamagedError:
                continue


def _npy(header: str, content: bytes = b"") -> io.BytesIO:
    raw = header.encode()
    return io.BytesIO(b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + content)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "plain numbers"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "plain numbers"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", "unknown"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "impossible"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1e999,)}", "cannot be read"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}", "cannot be read"),
        ("{'descr': '<f4', 'fortran_order': False}", "cannot be read"),
        ("(" * 9000, "cannot be read"),
        ("__import__('os')", "cannot be read"),
    ],
)
def test_a_header_that_is_not_plain_numbers_is_refused(header: str, reason: str) -> None:
    with pytest.raises(npz.DamagedError, match=reason):
        npz.open_array(_npy(header))


def test_a_pickle_is_never_loaded() -> None:
    with pytest.raises(npz.DamagedError, match="NUMPY"):
        npz.open_array(io.BytesIO(pickle.dumps({"a": 1})))


def test_a_claim_of_terabytes_is_refused_before_it_is_read() -> None:
    array = npz.open_array(
        _npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 40},)}}")
    )
    with pytest.raises(npz.DamagedError, match="over"):
        array.read_all()


def test_a_long_header_is_refused() -> None:
    with pytest.raises(npz.DamagedError, match="header claims"):
        npz.open_array(_npy(" " * (npz.MAX_HEADER_BYTES + 1)))


def test_a_compression_that_python_may_lack_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", b"x")
    with pytest.raises(npz.DamagedError, match="unknown way"):
        npz.decode(content.getvalue())
