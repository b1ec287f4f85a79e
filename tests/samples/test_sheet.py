"""What a contact sheet shows of a store."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import SampleError
from edgeq.samples.image import Preprocessing
from edgeq.samples.sheet import sheet_of_folder, sheet_of_store
from edgeq.samples.store import SampleStore, is_held_out

PLAIN = Preprocessing()


@pytest.fixture
def store(tmp_path):
    now = iter(range(1_000_000))
    store = SampleStore(tmp_path / "face", clock=lambda: float(next(now)))
    draw = np.random.default_rng(0)
    for place in range(6):
        image = {"image": draw.uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)}
        (store.add if place == 0 else store.offer)(image)
    return store


def test_the_newest_samples_are_shown_with_what_is_known_of_them(store):
    sheet = sheet_of_store(store, PLAIN, 0.5, 4)
    json.dumps(sheet)
    assert sheet["total"] == 6
    assert sheet["inputs"] == {"image": "pixels as they are"}
    rows = sorted(store.rows(), key=lambda row: -row.time)[:4]
    assert {s["id"] for s in sheet["samples"]} == {row.id for row in rows}
    for sample in sheet["samples"]:
        assert sample["held_out"] == is_held_out(sample["id"], 0.5)
        (picture,) = sample["pictures"]
        assert picture["shape"] == [1, 8, 8, 3]
        with Image.open(io.BytesIO(base64.b64decode(picture["content"]))) as image:
            assert image.size == (8, 8)


def test_origin_and_stratum_are_told(store):
    samples = sheet_of_store(store, PLAIN, 0.5, 60)["samples"]
    assert sorted((s["origin"], s["stratum"]) for s in samples) == [
        ("added", ""), *[("captured", "before")] * 5,
    ]  # fmt: skip


def test_a_folder_gives_the_same_and_is_left_as_it_is(store):
    left = sorted(path.name for path in store.directory.iterdir())
    (store.directory / "notes.txt").write_text("no sample")
    sheet = sheet_of_folder(store.directory, PLAIN, 0.5, 60)
    assert {s["id"] for s in sheet["samples"]} == {row.id for row in store.rows()}
    (store.directory / "notes.txt").unlink()
    assert sorted(path.name for path in store.directory.iterdir()) == left


def test_a_sample_that_went_or_is_torn_is_passed_over(store):
    gone, torn, *_ = store.rows()
    (store.directory / gone.file_name).unlink()
    (store.directory / torn.file_name).write_bytes(b"PK torn")
    sheet = sheet_of_store(store, PLAIN, 0.5, 60)
    assert len(sheet["samples"]) == 4


def test_an_input_of_several_shapes_is_shown_by_each(tmp_path):
    store = SampleStore(tmp_path / "free")
    store.add({"x": np.zeros((1, 8, 8, 3), np.float32), "y": np.ones((1, 4), np.float32)})
    store.add({"x": np.zeros((1, 9), np.float32), "y": np.ones((1, 5), np.float32)})
    sheet = sheet_of_store(store, PLAIN, 0.5, 60)
    assert [len(sample["pictures"]) for sample in sheet["samples"]] == [2, 2]


def test_an_empty_store_has_an_empty_sheet(tmp_path):
    sheet = sheet_of_store(SampleStore(tmp_path / "none"), PLAIN, 0.5, 60)
    assert sheet == {"total": 0, "inputs": {}, "samples": []}


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_folder_that_is_no_store_is_an_error_with_a_hint(tmp_path, name):
    with pytest.raises(SampleError) as raised:
        sheet_of_folder(tmp_path / name, PLAIN, 0.5, 60)
    assert raised.value.hint
