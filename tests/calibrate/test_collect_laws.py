"""The same samples give the same bytes, whatever their order, their batches and their parts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeq.calibrate.gather as gather
import edgeq.calibrate.tapped as tapped
from edgeq.calibrate.archive import histograms_to_npz, merge_histograms
from edgeq.calibrate.collect import Collection, collect
from edgeq.calibrate.histogram import Histogram
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from tests.calibrate.batchable import batchable_model
from tests.tiny import GraphBuilder, tiny_inputs, tiny_model

MODELS = {"alone": tiny_model, "batched": batchable_model}
COUNT = 40


def mixed_samples() -> list[Sample]:
    """Frames of several brightnesses; one with NaN, one ragged, one 20 times too bright."""
    scales = np.random.default_rng(0).uniform(0.2, 3, COUNT).astype(np.float32)
    images = [tiny_inputs(seed)["image"] * scale for seed, scale in enumerate(scales)]
    images[5] = np.full_like(images[5], np.nan)
    images[6] = images[6][:, :4]
    images[7] = images[7] * np.float32(40)
    return [Sample(f"s{i:02}", {"image": image}) for i, image in enumerate(images)]


@lru_cache
def collected(kind: str) -> Collection:
    return collect(MODELS[kind](), mixed_samples())


def bytes_of(collection: Collection) -> tuple[bytes, int, set[str]]:
    dropped = {d.id for d in collection.dropped}
    return histograms_to_npz(collection.histograms), collection.samples, dropped


@pytest.mark.parametrize("kind", MODELS)
@given(order=st.permutations(range(COUNT)))
@settings(deadline=None, max_examples=10)
def test_the_order_does_not_matter(kind: str, order: list[int]) -> None:
    samples = mixed_samples()
    shuffled = collect(MODELS[kind](), [samples[i] for i in order])
    assert bytes_of(shuffled) == bytes_of(collected(kind))
    assert {d.id for d in shuffled.dropped} == {"s05", "s06", "s07"}


@pytest.mark.parametrize("kind", MODELS)
@given(cuts=st.sets(st.integers(1, COUNT - 1), max_size=4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_parts_add_up_to_the_whole(kind: str, cuts: set[int], seed: int) -> None:
    samples = [s for s in mixed_samples() if s.id not in {"s05", "s06"}]
    order = np.random.default_rng(seed).permutation(len(samples))
    parts = [[samples[i] for i in part] for part in np.split(order, sorted(cuts)) if part.size]
    merged = merge_histograms(
        collect(MODELS[kind](), part, screening=None).histograms for part in parts
    )
    whole = collect(MODELS[kind](), samples, screening=None).histograms
    assert histograms_to_npz(merged) == histograms_to_npz(whole)


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bytes_of(collect(batchable_model(), mixed_samples()))
    for batch, frames, size in [(1, 64, 8 << 20), (4, 5, 8 << 20), (32, 64, 1), (8, 1, 1 << 16)]:
        monkeypatch.setattr(tapped, "MAX_BATCH", batch)
        monkeypatch.setattr(gather, "MAX_FRAMES", frames)
        monkeypatch.setattr(gather, "MAX_BYTES", size)
        assert bytes_of(collect(batchable_model(), mixed_samples())) == expected


def padded_model() -> Model:
    """'x' [1, n, 3], n free -> PAD by one row of zeros before and two after -> RELU."""
    g = GraphBuilder({"x": (1, 1, 3)})
    around = g.constant("around", np.array([[0, 0], [1, 2], [0, 0]], np.int32), "INT32")
    padded = g.op("PAD", [0, around], ("padded", (1, 4, 3)), options="PadOptions")
    model = g.finish(g.op("RELU", [padded], ("y", (1, 4, 3))))
    for name in ("x", "padded", "y"):
        model.tensors[model.names().index(name)].shapeSignature = np.array([1, -1, 3], np.int32)
    return model


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
@settings(deadline=None, max_examples=20)
def test_frames_of_any_size_are_counted_with_the_zeros_around_them(extents: list[int]) -> None:
    images = [
        np.random.default_rng(i).normal(1, 1, (1, extent, 3)).astype(np.float32)
        for i, extent in enumerate(extents)
    ]
    samples = [Sample(str(i), {"x": image}) for i, image in enumerate(images)]
    histograms = collect(padded_model(), samples, screening=None).histograms
    expected = {name: Histogram() for name in ("x", "padded", "y")}
    for image in images:
        padded = np.pad(image, ((0, 0), (1, 2), (0, 0)))
        for name, values in {"x": image, "padded": padded, "y": padded.clip(0)}.items():
            expected[name].add(values)
    assert histograms == expected
