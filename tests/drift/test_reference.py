from __future__ import annotations

import io

import numpy as np
import pytest

from edgeq.drift.reference import REFERENCE_FRAMES, DriftReference
from edgeq.drift.stream import Stream
from edgeq.errors import DriftError
from tests.drift.streams import IMAGE, STREAMS, counted, frames_of, reference_of


def test_what_is_written_is_read_again():
    reference = reference_of(20)
    again = DriftReference.from_npz(reference.to_npz())
    assert again.streams == reference.streams
    for name, rows in reference.counts.items():
        assert np.array_equal(again.counts[name], rows)
    assert np.array_equal(again.null.bounds(0.01), reference.null.bounds(0.01))
    assert again.digest == reference.digest
    assert again.to_npz() == reference.to_npz()


def test_other_frames_or_ranges_are_another_reference():
    reference = reference_of(20)
    assert reference.digest != reference_of(20, seed=1).digest
    wider = Stream("image", "input", "image", 0.0, 256.0)
    frames = frames_of(np.random.default_rng(0), 20)
    one, other = (DriftReference.from_frames([s], frames) for s in (IMAGE, wider))
    assert one.digest != other.digest


def test_no_more_frames_are_kept_than_the_bound():
    frames = ({"image": counted(100)} for _ in range(REFERENCE_FRAMES + 10))
    assert len(DriftReference.from_frames([IMAGE], frames).counts["image"]) == REFERENCE_FRAMES
    assert len(list(frames)) == 10


def test_a_stream_that_no_frame_has_is_left_out_and_one_that_some_lack_stays():
    frames = [{"image": counted(n), **({"x": counted(1)} if n % 2 else {})} for n in range(8)]
    streams = [*STREAMS, Stream("x", "activation", "x", 0.0, 1.0)]
    reference = DriftReference.from_frames(streams, frames)
    assert [s.name for s in reference.streams] == ["image", "x"]
    assert reference.counts["x"].sum(axis=1).tolist() == [0, 1] * 4


def test_no_frame_at_all_is_a_reference_of_nothing():
    reference = DriftReference.from_frames(STREAMS, [])
    assert DriftReference.from_npz(reference.to_npz()).streams == ()


def test_what_is_damaged_or_of_another_version_is_refused():
    content = reference_of(8).to_npz()
    for damaged in (b"", b"PK\x03\x04", content[:-60]):
        with pytest.raises(DriftError, match="cannot be read"):
            DriftReference.from_npz(damaged)
    older = io.BytesIO()
    np.savez_compressed(older, names=np.array(["image"]), edges_0=np.arange(3.0))
    with pytest.raises(DriftError, match="another version") as error:
        DriftReference.from_npz(older.getvalue())
    assert error.value.hint


def test_codes_are_the_nearest_and_saturate():
    stream = Stream("x", "input", "x", -1.0, 1.0)
    codes = stream.codes(np.array([-5.0, -1.0, 0.999, 1.0, np.inf]))
    assert codes.tolist() == [0, 0, 255, 255, 255]
    assert stream.codes(stream.values).tolist() == list(range(256))
    flat = Stream("x", "scalar", "x", 2.0, 2.0)
    assert flat.codes(np.array([1.0, 2.0, 3.0])).tolist() == [0, 128, 255]
