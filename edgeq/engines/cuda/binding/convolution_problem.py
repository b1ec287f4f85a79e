"""A Convolution, or a Dense as one, and where its values lie: what every binder starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.packing import Pixels, sorted_constants
from edgeq.engines.cuda.binding.site import Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, Work
from edgeq.engines.cuda.program.nodes import Convolution, Dense, Int8s, Window

ONCE = Window(size=(1, 1), stride=(1, 1))
WIDEST = 16  # bytes that are read at once
EXACT_ADDITION = 2**22  # what plus 1.5 * 2^23 is an integer in float32 below it


@dataclass(frozen=True, eq=False)
class Problem:
    """x [n, h, w, C] * weights [OC, KH, KW, C] -> the ending's y [n, OH, OW, OC]."""

    site: Site
    x: Pixels
    weights: Int8s
    window: Window
    zero_point: int
    ending: Ending
    label: str
    unfolded: Problem | None = None  # what it was before

    @classmethod
    def of(cls, node: Convolution | Dense, site: Site) -> Problem:
        """Look up where a node's values lie; a Dense is a convolution of 1 x 1 pixels.

        Raises:
            EngineError: a value is too large for the kernels' offsets.
        """
        weights, window = node.weights, ONCE
        x, ending = Pixels.of(site.view(node.x)), Ending.of(site, node.epilogue, node.y)
        if isinstance(node, Convolution):
            window = node.window
        else:
            weights = weights.reshape(weights.shape[0], 1, 1, weights.shape[1])
            x = replace(x, n=ending.y.n, h=ending.y.h, w=ending.y.w)  # rows may be cut otherwise
        label = site.value(node.y).name
        return cls(site, x, weights, window, node.zero_point, ending, label)

    @property
    def y(self) -> Pixels:
        """Return where the result lies."""
        return self.ending.y

    @property
    def taps(self) -> int:
        """Return the positions of the window."""
        return self.window.size[0] * self.window.size[1]

    @property
    def is_padded(self) -> bool:
        """Say whether some window reaches outside x."""
        window = self.window
        reach = [
            (size - 1) * stride + (count - 1) * dilation - before
            for size, stride, count, dilation, before in zip(
                (self.y.h, self.y.w),
                window.stride,
                window.size,
                window.dilation,
                window.before,
                strict=True,
            )
        ]
        return any(window.before) or reach[0] >= self.x.h or reach[1] >= self.x.w

    @property
    def work(self) -> Work:
        """Return what the arithmetic needs at least, whatever kernel does it."""
        plain = self.unfolded or self
        read = plain.x.bytes + plain.weights.size + self.ending.read_bytes
        return Work(self.y.count * plain.weights.size, read, self.y.bytes)

    def folded(self) -> Problem:
        """See pixels side by side as one of more channels, where a stride steps over them anyway.

        A first layer's 7 x 7 by 2 x 2 over 4 channels is one of 7 x 4 by 2 x 1 over 8, whose bytes
        are read 8 at a time.
        """
        x, window = self.x, self.window
        stride, before = window.stride[1], window.before[1]
        sizes = [f for f in (4, 2) if stride % f == 0 and x.w % f == 0 and f * x.pitch <= WIDEST]
        if not sizes or window.size[1] == 1 or window.dilation[1] > 1 or not x.has_room(x.pitch):
            return self
        fold = sizes[0]
        ahead = -(-before // fold)
        shift = ahead * fold - before
        columns = -(-(window.size[1] + shift) // fold)
        wider = replace(
            window,
            size=(window.size[0], columns),
            stride=(window.stride[0], stride // fold),
            before=(window.before[0], ahead),
        )
        together = fold * x.pitch
        pixels = replace(x, w=x.w // fold, channels=together, pitch=together)
        weights = self._folded_weights(fold, shift, columns)
        return replace(self, x=pixels, weights=weights, window=wider, unfolded=self)

    def _folded_weights(self, fold: int, shift: int, columns: int) -> Int8s:
        """Return [OC, KH, columns, fold * pitch], the first tap `shift` pixels further right."""
        oc, kh, kw, channels = self.weights.shape
        result = np.zeros((oc, kh, columns * fold, self.x.pitch), np.int8)
        result[:, :, shift : shift + kw, :channels] = self.weights
        return result.reshape(oc, kh, columns, fold * self.x.pitch)

    def bounds(self) -> dict[str, Constant]:
        """Return which shortcuts of the epilogue are exact, whatever x holds."""
        weights = np.abs(self.weights.astype(np.int32)).reshape(len(self.weights), -1)
        requantization = self.ending.epilogue.requantization
        sums = 128 * weights.sum(1) + np.abs(requantization.bias.astype(np.int64))
        results = sums * requantization.scale.astype(np.float64)
        return {
            "SUM_IS_SMALL": int(sums.max() < EXACT_ADDITION),
            "RESULT_IS_SMALL": int(results.max() < EXACT_ADDITION - 1),
        }

    def constants(self) -> dict[str, Constant]:
        """Return the macros of shapes, window and epilogue that all kernels share."""
        window = self.window
        pairs = {
            "STRIDE": window.stride,
            "DILATION": window.dilation,
            "BEFORE": window.before,
        }
        named = {
            f"{name}_{axis}": pair["HW".index(axis)]
            for name, pair in pairs.items()
            for axis in "HW"
        }
        return {
            **named,
            **self.ending.constants(),
            "KH": window.size[0],
            "KW": window.size[1],
            "X_H": self.x.h,
            "X_W": self.x.w,
            "X_C": self.x.channels,
            "X_PITCH": self.x.pitch,
            "Y_H": self.y.h,
            "Y_W": self.y.w,
            "PIXELS": self.y.count,
            "ZERO_POINT": self.zero_point,
        }

    def launch(
        self,
        template: str,
        constants: dict[str, Constant],
        threads: int,
        grid: tuple[int, int, int],
        pointers: tuple[Pointer, ...],
        padded_channels: int = 0,
        dynamic_shared_bytes: int = 0,
    ) -> Launch:
        """Return the launch of a template on x, `pointers`, the epilogue's four, and y."""
        all_constants = sorted_constants({**self.constants(), **constants})
        kernel = Kernel(template, all_constants, threads, dynamic_shared_bytes)
        ending = self.ending.pointers(self.site, padded_channels)
        places = (self.x.pointer, *pointers, *ending, self.y.pointer)
        return Launch(kernel, grid, places, self.label, self.work)
