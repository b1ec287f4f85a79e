"""What a binder is given, and what it returns: the ways to carry out one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from edgeq.engines.cuda.launch import Launch, Pointer, View
from edgeq.engines.cuda.program.nodes import Value
from edgeq.engines.cuda.targets import Target


class Site(Protocol):
    """Where a node is carried out."""

    @property
    def target(self) -> Target:
        """The architecture that the kernels are for."""

    def value(self, index: int) -> Value:
        """Return a value of the program."""

    def view(self, index: int) -> View:
        """Return where it lies; a constant value too."""

    def constant(self, array: npt.NDArray[Any]) -> Pointer:
        """Place an array among the constants, at a multiple of 256 bytes."""

    def scratch(self, size: int) -> Pointer:
        """Reserve bytes of the space that is zero before and after every kernel."""


@dataclass(frozen=True)
class Choice:
    """One way to carry out a node; nothing is placed until `bind` is called."""

    name: str  # e.g. 'conv_mma 64x64 s3 k2': what the tuner remembers
    microseconds: float  # estimated
    bind: Callable[[], tuple[Launch, ...]]
