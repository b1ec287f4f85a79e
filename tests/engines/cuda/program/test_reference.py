"""The formula spec against loops over single elements, written from the nodes' docstrings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeq.engines.cuda.program import nodes
from edgeq.engines.cuda.program.reference import evaluate
from tests.tiny import Array

FLOAT = np.float32


def run(node: nodes.Node, *shapes: tuple[int, ...], inputs: list[Array]) -> Array:
    """Evaluate one node; `shapes` are its inputs' and, last, its result's."""
    values = [nodes.Value(f"v{i}", shape, "int8") for i, shape in enumerate(shapes)]
    program = nodes.Program(tuple(values), (node,), tuple(range(len(inputs))), (len(shapes) - 1,))
    return evaluate(program, dict(enumerate(inputs)))[len(shapes) - 1]


def int8s(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def requantization(channels: int, *, low: int = -128, high: int = 127) -> nodes.Requantization:
    random = np.random.default_rng(1)
    bias = random.integers(-9000, 9000, channels).astype(np.int32)
    scale = random.uniform(1e-4, 4e-3, channels).astype(FLOAT)
    return nodes.Requantization(bias, scale, -7, low, high)


def requantized(accumulator: int, channel: int, r: nodes.Requantization) -> int:
    scaled = FLOAT(accumulator + int(r.bias[channel])) * r.scale[channel]
    clamped = min(max(scaled, FLOAT(r.low - r.zero_point)), FLOAT(r.high - r.zero_point))
    return int(np.rint(clamped)) + r.zero_point


def test_a_convolution_sees_the_zero_point_beyond_the_edges() -> None:
    x, weights, r = int8s(2, 5, 6, 3), int8s(4, 3, 2, 3, seed=2), requantization(4, low=-7)
    window = nodes.Window((3, 2), (2, 1), (1, 2), (1, 1), (2, 0))
    node = nodes.Convolution(0, 1, weights, window, 5, nodes.Epilogue(r))
    y = run(node, x.shape, (2, 3, 5, 4), inputs=[x])
    for n, i, j, o in np.ndindex(y.shape):
        total = 0
        for a, b, c in np.ndindex(3, 2, 3):
            row, column = i * 2 + a - 1, j + 2 * b - 1
            inside = 0 <= row < 5 and 0 <= column < 6
            total += int(x[n, row, column, c] if inside else 5) * int(weights[o, a, b, c])
        assert y[n, i, j, o] == requantized(total, o, r)


def test_a_depthwise_channel_reads_the_one_it_was_multiplied_from() -> None:
    x, weights, r = int8s(1, 4, 4, 2), int8s(2, 2, 6, seed=3), requantization(6)
    node = nodes.Depthwise(0, 1, weights, nodes.Window((2, 2), (1, 1)), 0, nodes.Epilogue(r))
    y = run(node, x.shape, (1, 3, 3, 6), inputs=[x])
    for _, i, j, o in np.ndindex(y.shape):
        products = x[0, i : i + 2, j : j + 2, o // 3].astype(int) * weights[:, :, o]
        assert y[0, i, j, o] == requantized(int(products.sum()), o, r)


def test_an_epilogue_adds_and_then_looks_up() -> None:
    x, weights, r, other = int8s(3, 40), int8s(5, 40, seed=4), requantization(5), int8s(3, 5)
    addition = nodes.Addition(70_000, -30_000, 12_345, 17, 3, -100, 90)
    table = np.random.default_rng(5).permutation(np.arange(-128, 128)).astype(np.int8)
    node = nodes.Dense(0, 2, weights, 0, nodes.Epilogue(r, addition, 1, table))
    y = run(node, x.shape, other.shape, (3, 5), inputs=[x, other])
    for row, o in np.ndindex(y.shape):
        first = requantized(int(x[row].astype(int) @ weights[o].astype(int)), o, r)
        total = (first * 70_000 - int(other[row, o]) * 30_000 + 12_345) >> 17
        assert y[row, o] == table[min(max(total + 3, -100), 90) + 128]


@pytest.mark.parametrize(
    ("before", "after"), [((0, 0), (0, 0)), ((1, 0), (0, 1)), ((0, 0), (-1, 0))]
)
def test_a_transposed_convolution_gathers_what_was_scattered(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    x, weights, r = int8s(1, 3, 4, 2), int8s(3, 3, 2, 2, seed=6), requantization(3)
    window = nodes.Window((3, 2), (2, 3), before=before, after=after)
    shape = (1, 7 - before[0] - after[0], 11 - before[1] - after[1], 3)
    node = nodes.TransposedConvolution(0, 1, weights, window, -4, nodes.Epilogue(r))
    y = run(node, x.shape, shape, inputs=[x])
    for _, i, j, o in np.ndindex(shape):
        total = 0
        for (h, w), (a, b) in itertools.product(np.ndindex(3, 4), np.ndindex(3, 2)):
            if i + before[0] == h * 2 + a and j + before[1] == w * 3 + b:
                total += int((x[0, h, w].astype(int) + 4) @ weights[o, a, b])
        assert y[0, i, j, o] == requantized(total, o, r)


def test_a_matrix_product_broadcasts_and_transposes() -> None:
    a, b = int8s(2, 5, 3), int8s(1, 4, 5, seed=7)
    r = nodes.Requantization(np.zeros(1, np.int32), np.array([0.004], FLOAT), 9, -128, 127)
    node = nodes.MatrixProduct(0, 1, 2, True, True, 11, -3, r)
    y = run(node, a.shape, b.shape, (2, 3, 4), inputs=[a, b])
    for n, i, j in np.ndindex(y.shape):
        total = (a[n, :, i].astype(int) - 11) @ (b[0, j].astype(int) + 3)
        assert y[n, i, j] == requantized(int(total), 0, r)


def test_a_matrix_product_may_be_rounded_twice() -> None:
    a, b = int8s(40, 7), int8s(7, 30, seed=7)
    r = nodes.Requantization(np.zeros(1, np.int32), np.ones(1, FLOAT), 9, -100, 120)
    fixed = nodes.RoundedTwice(2**30, 0, 6)  # half, then a 64th: ties of both kinds
    y = run(nodes.MatrixProduct(0, 1, 2, False, False, 0, 3, r, fixed), a.shape, b.shape, (40, 30),
            inputs=[a, b])  # fmt: skip
    for i, j in np.ndindex(y.shape):
        half = (int(a[i].astype(int) @ (b[:, j].astype(int) - 3)) + 1) // 2
        rounded = (abs(half) + 32) // 64 * (1 if half > 0 else -1)
        assert y[i, j] == min(max(rounded + 9, -100), 120)


def test_sums_of_products_are_exact_beyond_float32() -> None:
    x, weights = np.full((1, 5000), 127, np.int8), np.full((1, 5000), 127, np.int8)
    weights[0, 0] = 126
    r = nodes.Requantization(
        np.array([-127 * 127 * 5000], np.int32), np.ones(1, FLOAT), 0, -128, 127
    )
    assert (
        run(nodes.Dense(0, 1, weights, 0, nodes.Epilogue(r)), (1, 5000), (1, 1), inputs=[x]) == -127
    )


def test_an_average_leaves_padding_out_and_rounds_halves_away_from_zero() -> None:
    x = np.array([[3, -2], [0, 1]], np.int8).reshape(1, 2, 2, 1)
    window = nodes.Window((2, 2), (1, 1), before=(0, 0), after=(1, 1))
    node = nodes.Pooling("average", 0, 1, window, -128, 127)
    # sums 2 / 4, -1 / 2, 1 / 2, 1 / 1
    assert run(node, x.shape, x.shape, inputs=[x]).ravel().tolist() == [1, -1, 1, 1]


def test_a_maximum_leaves_padding_out() -> None:
    x = np.full((1, 2, 2, 1), -120, np.int8)
    window = nodes.Window((2, 2), (1, 1), after=(1, 1))
    node = nodes.Pooling("maximum", 0, 1, window, -128, 127)
    assert (run(node, x.shape, x.shape, inputs=[x]) == -120).all()


def test_a_mean_reduces_the_middle() -> None:
    x = int8s(2, 3, 4)
    node = nodes.Mean(0, 1, 2, 3, 4, 0.21, -5.3, -120, 119)
    y = run(node, x.shape, (2, 4), inputs=[x])
    for n, c in np.ndindex(y.shape):
        scaled = FLOAT(x[n, :, c].astype(int).sum()) * FLOAT(0.21) + FLOAT(-5.3)
        assert y[n, c] == min(max(int(np.rint(scaled)), -120), 119)


def test_a_product_is_of_centred_values() -> None:
    a, b = int8s(2, 3), int8s(3, seed=8)
    y = run(
        nodes.Product(0, 1, 2, 3, -9, 0.01, 4, -50, 60), a.shape, b.shape, (2, 3), inputs=[a, b]
    )
    for i, j in np.ndindex(y.shape):
        scaled = FLOAT((int(a[i, j]) - 3) * (int(b[j]) + 9)) * FLOAT(0.01)
        assert y[i, j] == min(max(int(np.rint(scaled)) + 4, -50), 60)


def test_a_product_may_be_scaled_in_integers() -> None:
    a, b = int8s(2, 3), int8s(2, 3, seed=8)
    fixed = nodes.FixedPoint(1_500_000_000, 2, 9)
    node = nodes.Product(0, 1, 2, 3, -9, 0.01, 4, -50, 60, fixed)
    y = run(node, a.shape, b.shape, (2, 3), inputs=[a, b])
    for i, j in np.ndindex(y.shape):
        whole = (int(a[i, j]) - 3) * (int(b[i, j]) + 9) * 4
        halved = whole * 1_500_000_000 // 2**31
        assert y[i, j] == min(max((halved + 256) // 512 + 4, -50), 60)


def test_a_channel_has_its_own_table() -> None:
    tables, x = int8s(3, 256), int8s(4, 3, seed=9)
    y = run(nodes.ChannelLookup(0, 1, tables), x.shape, x.shape, inputs=[x])
    for i, c in np.ndindex(x.shape):
        assert y[i, c] == tables[c, int(x[i, c]) + 128]


def test_moves_write_their_parts_of_one_value() -> None:
    a, b = int8s(2, 3), int8s(2, 1, seed=10)
    values = tuple(nodes.Value(str(i), s, "int8") for i, s in enumerate([(2, 3), (2, 1), (2, 4)]))
    first = (nodes.Axis(2, extent=2, stride=3), nodes.Axis(3, extent=3, stride=1))
    second = (nodes.Axis(2, extent=2, stride=1), nodes.Axis(1, extent=1, stride=1))
    moves = (nodes.Move(0, 2, first, (4, 1)), nodes.Move(1, 2, second, (4, 1), offset=3))
    y = evaluate(nodes.Program(values, moves, (0, 1), (2,)), {0: a, 1: b})[2]
    assert (y == np.concatenate([a, b], axis=1)).all()


@pytest.mark.parametrize(("mirror", "expected"), [
    ("", [9, 9, 1, 2, 3, 9]), ("reflect", [3, 2, 1, 2, 3, 2]), ("symmetric", [2, 1, 1, 2, 3, 3]),
])  # fmt: skip
def test_a_move_outside_fills_or_mirrors(mirror: str, expected: list[int]) -> None:
    axis = nodes.Axis(6, start=-2, extent=3, stride=1)
    node = nodes.Move(0, 1, (axis,), (1,), fill=9, mirror=mirror)
    assert run(node, (3,), (6,), inputs=[np.array([1, 2, 3], np.int8)]).tolist() == expected


def test_a_move_steps_and_permutes() -> None:
    x = int8s(5, 6)
    axes = (nodes.Axis(3, 5, -2, 6, 1), nodes.Axis(5, 0, 1, 5, 6))
    assert (run(nodes.Move(0, 1, axes, (5, 1)), x.shape, (3, 5), inputs=[x]) == x.T[5::-2]).all()


def test_quantize_saturates_and_dequantize_undoes_it() -> None:
    x = np.array([-np.inf, -0.26, 0.0, 0.25, 3e38, np.nan], FLOAT)
    values = (nodes.Value("x", (6,), "float32"), nodes.Value("q", (6,), "int8"),
              nodes.Value("y", (6,), "float32"), nodes.Value("u", (6,), "uint8"))  # fmt: skip
    steps = (
        nodes.Quantize(0, 1, 2.0, -3),
        nodes.Dequantize(1, 2, 0.5, -3),
        nodes.Quantize(0, 3, 2.0, 7),
    )
    found = evaluate(nodes.Program(values, steps, (0,), (2,)), {0: x})
    assert found[1].tolist() == [-128, -4, -3, -3, 127, 127]
    assert found[2].tolist() == [-62.5, -0.5, 0, 0, 65, 65]
    assert found[3].tolist() == [0, 6, 7, 7, 255, 255]


def test_resizes_read_what_they_are_told() -> None:
    x = int8s(1, 2, 3, 2)
    rows, columns = np.array([1, 0, 1], np.int32), np.array([2, 0], np.int32)
    y = run(nodes.NearestResize(0, 1, rows, columns), x.shape, (1, 3, 2, 2), inputs=[x])
    assert (y[0, 1, 0] == x[0, 0, 2]).all()
    pairs = np.array([[0, 1]], np.int32)
    half = np.array([1024], np.int32)
    y = run(nodes.BilinearResize(0, 1, pairs, pairs, half, half), x.shape, (1, 1, 1, 2), inputs=[x])
    assert (y[0, 0, 0] == np.floor(x[0, :, :2].mean(axis=(0, 1)) + 0.5)).all()


def test_a_softmax_sums_from_the_first_to_the_last() -> None:
    x = int8s(3, 50)
    table = np.exp(-0.05 * np.arange(256)).astype(FLOAT)
    y = run(nodes.Softmax(0, 1, 50, table, 1 / 256, -128), x.shape, x.shape, inputs=[x])
    for row, result in zip(x.astype(int), y, strict=True):
        terms = [table[row.max() - value] for value in row]
        total = FLOAT(0)
        for term in terms:
            total = FLOAT(total + term)
        inverse = FLOAT(1) / (total * FLOAT(1 / 256))
        expected = [min(int(float(t * inverse) + 0.5) - 128, 127) for t in terms]
        assert result.tolist() == expected
