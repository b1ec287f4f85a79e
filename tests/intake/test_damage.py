"""What a bad transfer does to a model is told apart from what a person or a training does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq.intake import damage
from edgeq.intake.damage import find_damage
from edgeq.tflite.model import Model
from tests.faults.copies import damaged_copies
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def sound(digits: Path) -> bytes:
    return (digits / "digits.tflite").read_bytes()


@pytest.fixture(scope="module")
def retrained(digits: Path) -> bytes:
    return (digits / "digits_v2.tflite").read_bytes()


def found(known: bytes, drop: bytes) -> str:
    return find_damage(np.frombuffer(known, np.uint8), np.frombuffer(drop, np.uint8))


def edited(content: bytes, edit: Callable[[np.ndarray], np.ndarray]) -> tuple[bytes, bytes]:
    """Return the model as edgeq writes it, and with its last bias edited: of one size."""
    model = Model.from_bytes(Model.from_bytes(content).to_bytes())
    index = next(i for i in model.operators[-2].inputs.tolist()[2:])
    bias = model.constant(index)
    assert bias is not None
    buffer = model.proto.buffers[model.tensors[index].buffer]
    before = model.to_bytes()
    buffer.data = np.frombuffer(edit(bias).astype(np.float32).tobytes(), np.uint8)
    return before, model.to_bytes()


def test_every_copy_of_one_size_with_few_bytes_changed_or_a_zeroed_tail_is_damaged(sound: bytes):
    copies = [c for c in damaged_copies(sound, 200, seed=1) if len(c.content) == len(sound)]
    assert {copy.kind for copy in copies} == {"1-8 structural bytes", "one byte", "zeroed tail"}
    for copy in copies:
        assert found(sound, copy.content), copy.kind


def test_the_same_file_another_training_and_another_size_are_not_damaged(
    sound: bytes, retrained: bytes
):
    assert found(sound, sound) == ""
    assert len(retrained) == len(sound)
    assert found(sound, retrained) == ""
    assert found(sound, sound[:-1]) == ""
    assert found(sound, sound + b"more") == ""


@pytest.mark.parametrize(
    "edit",
    [
        lambda bias: bias + 0.1,
        lambda bias: np.roll(bias, 1),
        lambda bias: np.where(np.arange(bias.size) == 3, 7.77, bias),
    ],
)
def test_a_bias_that_a_person_edited_is_another_model(
    sound: bytes, edit: Callable[[np.ndarray], np.ndarray]
):
    before, after = edited(sound, edit)
    assert before != after
    assert found(before, after) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e30])
def test_a_value_that_no_person_writes_is_damage(sound: bytes, value: float):
    before, after = edited(
        sound, lambda bias: np.where(np.arange(bias.size) == 3, np.float32(value), bias)
    )
    assert "in parts of values" in found(before, after)


@pytest.mark.parametrize("share", [0.3, 0.45, 0.7])
def test_a_new_file_over_the_start_of_an_old_one_is_damaged(
    sound: bytes, retrained: bytes, share: float
):
    """`scp` overwrites in place: a link that hangs leaves two files in one."""
    cut = int(len(sound) * share)
    torn = retrained[:cut] + sound[cut:]
    assert "two files in one" in found(sound, torn)


def test_dead_channels_at_the_end_of_what_was_trained_again_are_no_tear(
    sound: bytes, retrained: bytes
):
    before, after = bytearray(sound), bytearray(retrained)
    for content in (before, after):  # from within a constant of 3456 values to its end
        content[20_000:32_896] = bytes(12_896)
    after[32_896:] = before[32_896:]
    assert found(bytes(before), bytes(after)) == ""


def test_a_part_that_was_trained_again_is_another_model():
    """Whole constants changed, the others as they were: a net whose head was tuned."""
    model = tiny_model()
    before = model.to_bytes()
    for index in range(len(model.tensors)):
        values = model.constant(index)
        if values is not None and values.dtype == np.float32 and values.shape[0] == 4:
            buffer = model.proto.buffers[model.tensors[index].buffer]
            moved = (values * 1.5).astype(np.float32)
            buffer.data = np.frombuffer(moved.tobytes(), np.uint8)
    after = model.to_bytes()
    assert len(after) == len(before)
    assert found(before, after) == ""


@pytest.mark.parametrize("place", [2000, 20_000])
def test_a_sector_of_another_file_is_damage(sound: bytes, place: int):
    changed = bytearray(sound)
    changed[place : place + 512] = np.random.default_rng(place).bytes(512)
    assert "out of all proportion" in found(sound, bytes(changed))


def test_some_rows_of_a_constant_with_sensible_values_are_another_model(sound: bytes):
    """A gallery of faces that got another face."""
    changed = bytearray(sound)
    changed[20_000:20_400] = np.random.default_rng(0).normal(0, 0.1, 100).astype("<f4").tobytes()
    assert found(sound, bytes(changed)) == ""


def test_a_bias_that_was_zero_may_become_anything_sensible(sound: bytes):
    before, zeros = edited(sound, np.zeros_like)
    assert found(zeros, before) == ""


def test_files_larger_than_a_chunk_are_compared_to_their_end(
    sound: bytes, monkeypatch: pytest.MonkeyPatch
):
    changed = bytearray(sound)
    changed[-5000] ^= 0x40
    changed[100] ^= 0x40
    whole = found(sound, bytes(changed))
    monkeypatch.setattr(damage, "CHUNK_BYTES", 1000)
    assert found(sound, bytes(changed)) == whole != ""
