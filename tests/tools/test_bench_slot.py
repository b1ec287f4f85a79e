"""The slot's benchmark runs every way, and its table has a row for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.swap import SwapOptions
from tests.calibrate.batchable import batchable_model
from tools.bench_slot import ALL_WAYS, main, options_of


def test_the_way_as_served_is_the_slots_own() -> None:
    assert options_of("inline") == SwapOptions()
    assert options_of("instances=4") == SwapOptions(instances=4, inline_below_s=0.0)
    assert options_of("batch=8") == SwapOptions(max_batch=8, inline_below_s=0.0)
    with pytest.raises(KeyError):
        options_of("magic")


def test_every_way_has_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "tiny.tflite"
    model.write_bytes(batchable_model().to_bytes())
    words = [str(model), "--clients", "2", "--rounds", "1", "--seconds", "0.03"]
    assert main(words) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["model", "clients"]
    assert [row.split()[-1] for row in rows] == ALL_WAYS.split(",")
    assert all(float(row.split()[2]) > 0 for row in rows)
