"""The table's JSON and TensorRT's text are exact, both ways."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.calibrate.table import (
    CalibrationTable,
    TensorRange,
    read_tensorrt_cache,
    tensorrt_cache,
)
from edgeq.errors import CalibrationError

numbers = st.floats(-1e30, 1e30)
rows = st.builds(
    lambda ends, seen, method, divergence, clipped: TensorRange(
        *sorted(ends), method, divergence, clipped, *sorted(seen)
    ),
    st.tuples(numbers, numbers),
    st.tuples(numbers, numbers),
    st.sampled_from(list(METHODS)),
    st.one_of(st.floats(0, 20), st.just(math.inf)),
    st.floats(0, 1),
)
tables = st.builds(
    CalibrationTable,
    st.text(),
    st.sampled_from(list(METHODS)),
    st.integers(0, 10**9),
    st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), rows, max_size=3),
)
ROW = TensorRange(-1.0, 2.0, "entropy", 0.25, 0.125, -1.5, 2.5)
TABLE = CalibrationTable("ab" * 32, "entropy", 64, {"conv1": ROW})


def histogram_of(values: Any) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


@given(tables)
@settings(deadline=None)
def test_a_table_comes_back_as_it_was(table: CalibrationTable) -> None:
    assert CalibrationTable.from_json(table.to_json()) == table


def test_the_json_is_that_of_the_contract() -> None:
    assert json.loads(TABLE.to_json()) == {
        "model_sha256": "ab" * 32,
        "method": "entropy",
        "samples": 64,
        "tensors": {
            "conv1": {
                "lo": -1.0,
                "hi": 2.0,
                "method": "entropy",
                "divergence": 0.25,
                "clipped_ratio": 0.125,
                "min": -1.5,
                "max": 2.5,
            }
        },
    }


@pytest.mark.parametrize("divergence", [math.inf, math.nan])
def test_a_divergence_that_is_not_finite_is_null(divergence: float) -> None:
    table = replace(TABLE, tensors={"x": replace(ROW, divergence=divergence)})
    assert json.loads(table.to_json())["tensors"]["x"]["divergence"] is None
    assert CalibrationTable.from_json(table.to_json()).tensors["x"].divergence == math.inf


def test_ranges_are_chosen_by_the_method() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    table = CalibrationTable.from_histograms("m", "max", 3, {"x": histogram_of(values)})
    row = table.tensors["x"]
    assert (row.lo, row.hi) == (row.min, row.max) == tuple(np.float32([min(values), max(values)]))
    assert (table.method, row.method, table.samples) == ("max", "max", 3)


def test_a_tensor_without_values_has_the_range_zero() -> None:
    table = CalibrationTable.from_histograms("m", "entropy", 1, {"x": Histogram()})
    assert table.tensors["x"] == TensorRange(0, 0, "entropy", 0, 0, 0, 0)
    assert CalibrationTable.from_json(table.to_json()) == table


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(CalibrationError, match="'auto' is unknown; there are entropy") as caught:
        CalibrationTable.from_histograms("m", "auto", 1, {})
    assert caught.value.hint


def changed(path: str, value: Any) -> bytes:
    table = json.loads(TABLE.to_json())
    *parents, key = path.split("/")
    target = table
    for parent in parents:
        target = target[parent]
    if value is None:
        del target[key]
    else:
        target[key] = value
    return json.dumps(table).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a list; an object"),
        (TABLE.to_json().replace(b"0.25", b"Infinity"), "Infinity is not a JSON number"),
        (changed("samples", None), "key 'samples' is missing"),
        (changed("samples", True), "key 'samples' is a bool; int is expected"),
        (changed("samples", -1), "key 'samples' is -1"),
        (changed("model_sha256", 3), "key 'model_sha256' is a int; str"),
        (changed("tensors", []), "key 'tensors' is a list; dict"),
        (changed("tensors/conv1", 4), "key 'tensors.conv1' is a int"),
        (changed("tensors/conv1/lo", None), "key 'tensors.conv1.lo' is 'absent'"),
        (changed("tensors/conv1/hi", "2"), "key 'tensors.conv1.hi' is '2'"),
        (changed("tensors/conv1/hi", 1e39), "key 'tensors.conv1.hi' is 1e[+]39"),
        (changed("tensors/conv1/hi", 10**400), "key 'tensors.conv1.hi' is 1"),
        (changed("tensors/conv1/lo", 3.0), "'tensors.conv1' has lo 3.0, hi 2.0"),
        (changed("tensors/conv1/clipped_ratio", 1.5), "conv1.clipped_ratio' is 1.5"),
        (changed("tensors/conv1/divergence", None), "conv1.divergence' is 'absent'"),
        (changed("tensors/conv1/method", 1), "key 'tensors.conv1.method' is a int"),
    ],
)
def test_a_wrong_table_names_the_key(content: bytes, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as caught:
        CalibrationTable.from_json(content)
    assert caught.value.hint


def test_further_keys_are_ignored() -> None:
    assert CalibrationTable.from_json(changed("made_by", "a later edgeq")) == TABLE


# ---- TensorRT


def with_amax(name: str, amax: float) -> CalibrationTable:
    return replace(TABLE, tensors={name: replace(ROW, lo=-amax, hi=amax / 2)})


def test_the_cache_is_that_of_tensorrt() -> None:
    (scale,) = struct.unpack(">f", bytes.fromhex("3c88edfc"))
    assert tensorrt_cache(with_amax("conv1", scale * 127)) == (
        "TRT-8501-EntropyCalibration2\nconv1: 3c88edfc\n"
    )
    cache = "TRT-7000-EntropyCalibration2\r\nconv1: 3c88edfc\r\n\r\n"
    assert read_tensorrt_cache(cache) == {"conv1": pytest.approx(scale * 127)}


@given(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",))),
    st.floats(0, 2.0**100, width=32),
)
@settings(deadline=None)
def test_a_cache_comes_back_as_it_was(name: str, amax: float) -> None:
    table = with_amax(name, amax)
    assert read_tensorrt_cache(tensorrt_cache(table)) == {
        name: pytest.approx(amax, rel=1e-6, abs=1e-40)
    }


def test_names_may_hold_the_separator() -> None:
    text = tensorrt_cache(with_amax("a: b: c", 1.0))
    assert list(read_tensorrt_cache(text)) == ["a: b: c"]


def test_a_name_of_two_lines_is_refused() -> None:
    with pytest.raises(CalibrationError, match="line break"):
        tensorrt_cache(with_amax("a\nb", 1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line is ''"),
        ("conv1: 3c88edfc\n", "first line is 'conv1"),
        ("TRT-8501-EntropyCalibration2\nconv1: 3c88ed\n", "8 hex digits"),
        ("TRT-8501-EntropyCalibration2\nconv1: zzzzzzzz\n", "8 hex digits"),
        ("TRT-8501-EntropyCalibration2\n3c88edfc\n", "no name"),
        ("TRT-8501-EntropyCalibration2\nconv1: 7fc00000\n", "no finite scale"),
        ("TRT-8501-EntropyCalibration2\nconv1: bf800000\n", "no finite scale"),
    ],
)
def test_a_wrong_cache_is_an_error(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        read_tensorrt_cache(text)
