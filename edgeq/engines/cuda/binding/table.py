"""The literal table of binders: what each type of node is carried out by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeq.engines.cuda.binding import (
    chain,
    convolution,
    dense,
    depthwise,
    elementwise,
    matrix_product,
    movement,
    pooling,
    reducing,
    resizing,
    softmax,
    transposed,
)
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.program.nodes import (
    BilinearResize,
    Chain,
    ChannelLookup,
    Convolution,
    Dense,
    Depthwise,
    Dequantize,
    Extremum,
    Lookup,
    MatrixProduct,
    Mean,
    Move,
    NearestResize,
    Node,
    Pooling,
    Product,
    Quantize,
    Softmax,
    Sum,
    TransposedConvolution,
)


def choices(node: Node, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a node, best first; a Reshape has none: views replace it."""
    return CHOICES[type(node)](node, site)


def _chain_choices(node: Chain, site: Site) -> tuple[Choice, ...]:
    return chain.choices(node, site, choices)


CHOICES: Mapping[type[Node], Callable[[Any, Site], tuple[Choice, ...]]] = {
    Convolution: convolution.choices,
    Depthwise: depthwise.choices,
    Dense: dense.choices,
    TransposedConvolution: transposed.choices,
    MatrixProduct: matrix_product.choices,
    Sum: elementwise.sum_choices,
    Extremum: elementwise.extremum_choices,
    Product: elementwise.product_choices,
    Lookup: elementwise.lookup_choices,
    ChannelLookup: elementwise.channel_lookup_choices,
    Pooling: pooling.choices,
    Mean: reducing.choices,
    Softmax: softmax.choices,
    Move: movement.choices,
    NearestResize: resizing.nearest_choices,
    BilinearResize: resizing.bilinear_choices,
    Quantize: elementwise.quantize_choices,
    Dequantize: elementwise.dequantize_choices,
    Chain: _chain_choices,
}
