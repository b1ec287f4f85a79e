"""Two values with the same channels -> how many of them a thread may take at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.engines.cuda.binding.nest import is_multiple, padded_row
from edgeq.engines.cuda.binding.packing import Pixels
from edgeq.engines.cuda.launch import Constant, View

WIDTHS = (16, 8, 4, 1)


@dataclass(frozen=True)
class Channels:
    """Channels of a pixel, with those of the padding that may be written as well."""

    count: int
    width: int  # that a thread loads and stores at once

    @property
    def groups(self) -> int:
        """Return the threads that a pixel takes."""
        return self.count // self.width

    @classmethod
    def of(cls, x: View, y: View) -> Sequence[Channels]:
        """Return all that the views allow, widest first; single bytes only where nothing else."""
        found = []
        for width in WIDTHS:
            count = padded_row(y, [x], width)
            aligned = all(is_multiple(view, view.strides[:-1], width) for view in (x, y))
            if aligned and count % width == 0:
                found.append(cls(count, width))
        return [channels for channels in found if channels.width > 1] or found


def pixel_constants(x: Pixels, y: Pixels) -> dict[str, Constant]:
    """Return the macros that say where pixels lie."""
    return {
        "N": y.n,
        "X_H": x.h,
        "X_W": x.w,
        "X_PITCH": x.pitch,
        "Y_H": y.h,
        "Y_W": y.w,
        "Y_PITCH": y.pitch,
    }
