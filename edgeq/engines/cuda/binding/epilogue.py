"""A node's Epilogue and where its result lies -> the macros and pointers of `eq_epilogue`.

Every kernel with an int32 accumulator takes the four pointers bias, scale, other, table one after
the other; one that the epilogue does not need repeats the bias and is not read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up
from edgeq.engines.cuda.binding.site import Site
from edgeq.engines.cuda.launch import Constant, Pointer
from edgeq.engines.cuda.program.nodes import Addition, Epilogue, Pair, Requantization


@dataclass(frozen=True)
class Phases:
    """What the channels of a convolution hold that stands for a transposed one.

    Channel p * channels + c of its pixel q is channel c of the pixel `q * stride + p + offset` of
    the stored value, if that has it; p counts the stride's rows and columns.
    """

    stored: Pixels
    channels: int  # of a phase: those of the stored value, up to whole vectors
    stride: Pair
    offset: Pair

    def constants(self) -> dict[str, Constant]:
        """Return the macros of device.cuh's `eq_place`."""
        return {
            "PHASES_H": self.stride[0],
            "PHASES_W": self.stride[1],
            "PHASE_C": self.channels,
            "OFFSET_H": self.offset[0],
            "OFFSET_W": self.offset[1],
            "STORED_H": self.stored.h,
            "STORED_W": self.stored.w,
            "STORED_C": self.stored.channels,
        }


@dataclass(frozen=True)
class Ending:
    """What an epilogue is, before its constants are placed."""

    epilogue: Epilogue
    y: Pixels
    other: Pixels | None
    phases: Phases | None = None

    @classmethod
    def of(cls, site: Site, epilogue: Epilogue, y: int) -> Ending:
        """Look up where the result and the residual value lie."""
        other = None if epilogue.other is None else Pixels.of(site.view(epilogue.other))
        return cls(epilogue, Pixels.of(site.view(y)), other)

    @property
    def vector(self) -> int:
        """Return how many channels, 1 to 16, may be read and written at once up to the last ones.

        Padding is written where y owns it: `round_up(y.channels, vector)` channels are stored.
        """
        stored = self.y if self.phases is None else self.phases.stored
        views = [stored] if self.other is None else [stored, self.other]
        aligned = min(pixels.alignment for pixels in views)
        return next(
            width
            for width in (16, 8, 4, 2, 1)
            if aligned % width == 0
            and all(pixels.has_room(round_up(stored.channels, width)) for pixels in views)
        )

    @property
    def read_bytes(self) -> int:
        """Return what an epilogue reads beside the accumulators."""
        return 8 * self.y.channels + (0 if self.other is None else self.other.bytes)

    def constants(self) -> dict[str, Constant]:
        """Return the macros of device.cuh's epilogue."""
        requantization = self.epilogue.requantization
        return {
            "EPILOGUE": 1,
            "TABLE": int(self.epilogue.table is not None),
            "IS_TABLE_FIRST": int(self.epilogue.is_table_first),
            "VECTOR": self.vector,
            "Y_C": self.y.channels,
            "Y_PITCH": self.y.pitch,
            "OTHER_PITCH": 0 if self.other is None else self.other.pitch,
            **requantization_constants(requantization),
            **_addition_constants(self.epilogue.addition),
            **(self.phases.constants() if self.phases else {}),
        }

    def pointers(self, site: Site, channels: int = 0) -> tuple[Pointer, Pointer, Pointer, Pointer]:
        """Place bias and scale, padded with zeros to so many channels, and the table."""
        requantization = self.epilogue.requantization
        channels = max(channels, len(requantization.bias))
        bias = site.constant(padded(requantization.bias.astype(np.int32), channels))
        scale = site.constant(padded(requantization.scale.astype(np.float32), channels))
        table = self.epilogue.table
        return (
            bias,
            scale,
            bias if self.other is None else self.other.pointer,
            bias if table is None else site.constant(table),
        )


def requantization_constants(requantization: Requantization) -> dict[str, Constant]:
    """Return the macros of the int8 result."""
    return {
        "RESULT_ZERO_POINT": requantization.zero_point,
        "RESULT_LOW": requantization.low,
        "RESULT_HIGH": requantization.high,
    }


def _addition_constants(addition: Addition | None) -> dict[str, Constant]:
    if addition is None:
        return {"ADD": 0}
    addition = _folded(addition)
    return {
        "ADD": 1,
        "ADD_A_FACTOR": addition.a_factor,
        "ADD_B_FACTOR": addition.b_factor,
        "ADD_BIAS": addition.bias,
        "ADD_SHIFT": addition.shift,
        "ADD_ZERO_POINT": addition.zero_point,
        "ADD_LOW": addition.low,
        "ADD_HIGH": addition.high,
    }


def _folded(addition: Addition) -> Addition:
    """Put the result's zero point into the bias, before the shift, where int32 holds that too."""
    largest = 128 * (abs(addition.a_factor) + abs(addition.b_factor))
    bias = addition.bias + (addition.zero_point << addition.shift)
    if largest + abs(bias) >= 2**31:
        return addition
    return replace(addition, bias=bias, zero_point=0)
