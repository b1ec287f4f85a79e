from __future__ import annotations

import struct

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.reuse import TENSORRT, read_calibration
from edgeq.calibrate.table import CalibrationTable, histograms_to_npz, tensorrt_cache
from edgeq.errors import CalibrationError

SHA = "ab" * 32


def histograms() -> dict[str, Histogram]:
    made = {"x": Histogram(), "conv: 1": Histogram()}
    draw = np.random.default_rng(0)
    for histogram in made.values():
        histogram.add(draw.normal(size=1000).astype(np.float32))
    return made


TABLE = CalibrationTable.from_histograms(SHA, "entropy", 12, histograms())


def test_a_table_and_its_histograms_come_back():
    read = read_calibration(TABLE.to_json(), histograms_to_npz(histograms()), SHA, ["x"])
    assert read.table == TABLE
    assert read.collection is not None
    assert read.collection.histograms == histograms()
    assert list(read.collection.histograms) == list(TABLE.tensors)
    assert read.collection.samples == 12


def test_a_table_alone_has_its_ranges_only():
    read = read_calibration(TABLE.to_json(), None, SHA, ["x"])
    assert (read.table, read.collection) == (TABLE, None)


def test_a_table_of_another_model_is_refused_by_its_digest():
    with pytest.raises(CalibrationError, match="is of model abababababab; this model is cdcd"):
        read_calibration(TABLE.to_json(), None, "cd" * 32, ["x"])


def test_histograms_of_another_calibration_are_refused():
    with pytest.raises(CalibrationError, match="1 tensors, not the 2"):
        read_calibration(TABLE.to_json(), histograms_to_npz({"x": Histogram()}), SHA, ["x"])


def test_tensorrt_s_thresholds_become_symmetric_ranges():
    cache = b"TRT-8501-EntropyCalibration2\nconv1: 3c88edfc\n"
    read = read_calibration(cache, None, SHA, ["conv1", "other"])
    row = read.table.tensors["conv1"]
    assert read.table.method == row.method == TENSORRT
    assert row.hi == pytest.approx(struct.unpack(">f", bytes.fromhex("3c88edfc"))[0] * 127)
    assert row.lo == -row.hi


def test_our_own_cache_comes_back():
    cache = tensorrt_cache(TABLE).encode()
    read = read_calibration(cache, None, SHA, TABLE.tensors)
    for name, row in TABLE.tensors.items():
        assert read.table.tensors[name].hi == pytest.approx(max(-row.lo, row.hi), rel=1e-6)


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        (b"TRT-8501-X\nconv9: 3c88edfc\n", "1 of 1 tensors that the model has not"),
        (b"TRT-8501-X\n", "0 of 0 tensors"),
        (b"TRT-8501-X\n\xff: 3c88edfc\n", "is not text"),
        (b"{", "it is not JSON"),
    ],
)
def test_what_does_not_fit_is_refused(cache, says):
    with pytest.raises(CalibrationError, match=says):
        read_calibration(cache, None, SHA, ["conv1"])
