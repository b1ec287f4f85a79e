"""Every type of node has a binder, but for the one that views replace."""

from __future__ import annotations

from typing import get_args

from edgeq.engines.cuda.binding.table import CHOICES
from edgeq.engines.cuda.program.nodes import Node, Reshape


def test_every_node_but_a_reshape_has_choices() -> None:
    assert set(CHOICES) == set(get_args(Node)) - {Reshape}
