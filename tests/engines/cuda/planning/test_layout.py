"""Values share memory only where that changes nothing, and copies vanish where they may."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeq.engines.cuda.planning.borders import prepare_borders
from edgeq.engines.cuda.planning.layout import Layout, lay_out
from edgeq.engines.cuda.program.nodes import Move, Reshape
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.memory import Memory
from tests.engines.cuda.programs import Builder

NANO, ORIN = Target(53), Target(87)


def _laid_out(builder: Builder, outputs: Sequence[int], target: Target = ORIN) -> Layout:
    """Lay a program out, and hold its outputs against the reference's."""
    program, given = builder.finish(*outputs), builder.given()
    layout = lay_out(prepare_borders(program), target)
    expected = evaluate(program, given)
    actual = Memory(layout, given).run()
    for named, placed in zip(outputs, layout.program.outputs, strict=True):
        np.testing.assert_array_equal(actual[placed], expected[named])
    return layout


def _copies(layout: Layout) -> int:
    return sum(isinstance(node, Move | Reshape) for node in layout.program.nodes)


@pytest.mark.parametrize(("target", "pitch"), [(NANO, 20), (ORIN, 32)])
def test_channels_are_padded_to_what_the_target_loads_at_once(target: Target, pitch: int) -> None:
    builder = Builder()
    inner = builder.convolution(builder.input(2, 5, 5, 8), 18)
    layout = _laid_out(builder, [builder.convolution(inner, 3)], target)
    assert layout.views[inner].pitch == pitch


def test_parts_of_a_channel_concatenation_are_written_where_the_whole_lies() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    parts = [builder.convolution(x, 6), builder.convolution(x, 16), builder.depthwise(x)]
    whole = builder.concatenation(parts)
    layout = _laid_out(builder, [builder.convolution(whole, 8)])
    assert _copies(layout) == 0
    offsets = [layout.views[part].pointer.offset for part in parts]
    assert [offset - offsets[0] for offset in offsets] == [0, 6, 22]


def test_outer_parts_of_an_output_are_written_into_its_buffer() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    parts = [builder.convolution(x, 4), builder.depthwise(x)]
    rows = [builder.reshape(part, 1, 16, 4) for part in parts]
    layout = _laid_out(builder, [builder.concatenation(rows, axis=1)])
    assert _copies(layout) == 0
    assert {layout.views[part].pointer.space for part in parts} == {"output"}


def test_an_input_in_a_concatenation_is_copied() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    whole = builder.concatenation([x, builder.convolution(x, 4)])
    assert _copies(_laid_out(builder, [builder.convolution(whole, 4)])) == 1


def test_one_value_twice_in_a_concatenation_is_copied_once() -> None:
    builder = Builder()
    part = builder.convolution(builder.input(1, 4, 4, 4), 4)
    whole = builder.concatenation([part, part])
    assert _copies(_laid_out(builder, [builder.convolution(whole, 4)])) == 1


def test_parts_across_the_width_are_copied() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    whole = builder.concatenation([builder.convolution(x, 4), builder.depthwise(x)], axis=2)
    assert _copies(_laid_out(builder, [builder.convolution(whole, 4)])) == 2


def test_slices_of_channels_and_of_rows_are_read_in_place() -> None:
    builder = Builder()
    whole = builder.convolution(builder.input(1, 4, 4, 4), 12)
    channels = builder.slice(whole, (0, 0, 0, 3), (1, 4, 4, 5))
    rows = builder.slice(whole, (0, 1, 0, 0), (1, 2, 4, 12))
    outputs = [builder.convolution(channels, 4), builder.convolution(rows, 4)]
    assert _copies(_laid_out(builder, outputs)) == 0


def test_a_slice_that_is_an_output_is_copied() -> None:
    builder = Builder()
    whole = builder.convolution(builder.input(1, 4, 4, 4), 12)
    assert _copies(_laid_out(builder, [builder.slice(whole, (0, 0, 0, 3), (1, 4, 4, 5))])) == 1


def test_a_reshape_of_a_slice_of_channels_is_a_copy() -> None:
    builder = Builder()
    whole = builder.convolution(builder.input(1, 4, 4, 4), 12)
    part = builder.slice(whole, (0, 0, 0, 3), (1, 4, 4, 5))
    flat = builder.reshape(part, 1, 80)
    assert _copies(_laid_out(builder, [builder.dense(flat, 7)])) == 1


def test_what_is_reshaped_does_not_lie_among_other_channels() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    part = builder.convolution(x, 6)
    flat = builder.dense(builder.reshape(part, 1, 96), 5)
    whole = builder.concatenation([part, builder.convolution(x, 2)])
    layout = _laid_out(builder, [flat, builder.convolution(whole, 3)])
    assert layout.views[part].is_dense
    assert _copies(layout) == 1


def test_a_reshape_that_keeps_the_channels_keeps_the_padding() -> None:
    builder = Builder()
    image = builder.convolution(builder.input(1, 4, 4, 4), 6)
    rows = builder.reshape(image, 1, 16, 6)
    layout = _laid_out(builder, [builder.lookup(rows)])
    assert layout.views[rows].pitch == layout.views[image].pitch == 8


def test_a_reshape_between_input_and_output_is_a_copy() -> None:
    builder = Builder()
    assert _copies(_laid_out(builder, [builder.reshape(builder.input(2, 6), 3, 4)])) == 1


def test_an_output_that_is_an_input_or_stands_twice_is_copied() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    y = builder.convolution(x, 4)
    assert _copies(_laid_out(builder, [x, y, y])) == 2


def test_an_int8_image_of_three_channels_is_padded_once() -> None:
    builder = Builder()
    x = builder.input(1, 6, 6, 3)
    outputs = [builder.convolution(x, 4, size=3), builder.convolution(x, 4)]
    layout = _laid_out(builder, outputs)
    assert _copies(layout) == 1
    assert layout.program.labels[0] == "copy of input v0"


def test_values_that_never_live_at_once_share_memory() -> None:
    builder = Builder()
    x = builder.input(1, 16, 16, 16)
    for _ in range(6):
        x = builder.convolution(x, 16)
    assert _laid_out(builder, [x]).arena_bytes == 2 * 16 * 16 * 16


def test_a_sum_with_a_constant_is_laid_out() -> None:
    builder = Builder()
    x = builder.convolution(builder.input(1, 4, 4, 4), 4)
    constant = builder.constant(np.arange(64, dtype=np.int8).reshape(1, 4, 4, 4))
    _laid_out(builder, [builder.sum(x, constant)])


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_give_the_same_bytes(seed: int) -> None:
    builder = _random_program(seed)
    outputs = [len(builder.values) - 1, len(builder.values) // 2]
    produced = {node.y for node in builder.nodes}
    _laid_out(builder, [v for v in outputs if v in produced], (NANO, ORIN)[seed % 2])


def _random_program(seed: int) -> Builder:
    builder, random = Builder(), np.random.default_rng(seed)
    images = [builder.convolution(builder.input(1, 4, 4, 3), 8)]
    for _ in range(14):
        x = images[random.integers(len(images))]
        channels = builder.shape(x)[-1]
        match random.integers(6):
            case 0:
                images.append(builder.convolution(x, int(random.integers(1, 20))))
            case 1:
                images.append(builder.depthwise(x))
            case 2:
                other = images[random.integers(len(images))]
                images.append(builder.concatenation([x, other]))
            case 3:
                begin = int(random.integers(channels))
                size = int(random.integers(1, channels - begin + 1))
                images.append(builder.slice(x, (0, 0, 0, begin), (1, 4, 4, size)))
            case 4:
                flat = builder.reshape(x, 1, 16 * channels)
                images.append(builder.reshape(builder.lookup(flat), 1, 4, 4, channels))
            case 5:
                images.append(builder.lookup(builder.reshape(x, 1, 4, 4, channels)))
    return builder
