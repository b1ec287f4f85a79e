"""An input of a model -> a small picture of it, for people.

An image is shown as it was before the sidecar's preprocessing. Where that does not lead back to
pixels, its values are stretched, each channel by what the samples shown together hold: so a dark
frame among others stays dark. A table of values becomes a map, all else a line.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from edgeq.samples.image import Preprocessing

Array = npt.NDArray[Any]
Kind = Literal["image", "map", "line"]

LONGEST = 128  # px
LINE_SIZE = (160, 72)
SMALL = 48  # px: such pictures are kept to the pixel, larger ones as JPEG, a fifth of the bytes
PIXEL_SLACK = 2.0  # of 255: what rounding and resizing add
LEAST_PIXEL_SPAN = 8.0  # of 255: values that span less may be anything
MOST_PLACES = 4096
TAIL = 0.05  # of the samples, at either end, may reach beyond the range that is shown
INK = (58, 123, 200)  # readable on white and on black


@dataclass(frozen=True)
class Thumbnail:
    """One picture: bytes of a PNG or JPEG file."""

    content: bytes
    media: str  # 'image/png' | 'image/jpeg'
    width: int
    height: int


@dataclass(frozen=True)
class Form:
    """What the values of an input are; only those of one form can be compared."""

    kind: Kind
    channels: int
    is_channels_first: bool


@dataclass(frozen=True)
class Display:
    """How all samples of one input are shown, so that they can be compared."""

    form: Form
    words: str  # what was done to the values
    scale: Array  # [C]: shown = value * scale + offset, 0 to 255
    offset: Array
    is_map: bool
    is_bgr: bool

    def thumbnail(self, values: Array) -> Thumbnail:
        """Draw one sample's input of this form, the batch dimension included."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is odd is shown as something
            shown = _planes(values, self.form) * self.scale.astype(np.float32)
            shown = np.clip(shown + self.offset.astype(np.float32), 0.0, 255.0)
        shown = np.nan_to_num(shown, copy=False)
        if self.form.kind == "line":
            return _png(_line(shown[:, 0].astype(np.float64)))
        pixels = (shown + np.float32(0.5)).astype(np.uint8)
        pixels = pixels[..., ::-1] if self.is_bgr else pixels
        return _encoded(_shrunk(Image.fromarray(_colours(pixels))))


def extent_of(form: Form, values: Array) -> tuple[Array, Array] | None:
    """Return the least and the largest value of each channel; None where one is never finite.

    Of a large input, of some of its places: 0.3 ms instead of 8 for 224 x 224 x 3.
    """
    planes = _planes(values, form)
    rows: Array = planes.reshape(-1, planes.shape[-1])
    rows = rows[:: max(1, len(rows) // MOST_PLACES)].astype(np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.any():
        return None
    return rows[finite].min(axis=0), rows[finite].max(axis=0)


def display_of(
    form: Form, extents: Sequence[tuple[Array, Array]], preprocessing: Preprocessing
) -> Display:
    """Return how to show samples of one input whose extents these are."""
    low, high = _range(extents, form.channels)
    found = None if form.kind == "line" else _pixels(low, high, preprocessing)
    words, scale, offset = found or _stretched(low, high)
    # One channel that is no light is a map of features: its shape says nothing.
    is_map = form.kind == "map" or (form.kind == "image" and form.channels == 1 and not found)
    is_bgr = form.kind == "image" and form.channels == 3 and preprocessing.channels == "bgr"
    return Display(form, words, scale, offset, is_map, is_bgr)


def form_of(values: Array, preprocessing: Preprocessing) -> Form:
    """Return what an input's values are, by their shape without the batch dimension."""
    shape = values.shape[1:]
    if len(shape) == 3 and min(shape) > 0:
        is_first = preprocessing.layout == "nchw" or shape[2] not in (1, 3)
        channels = shape[0] if is_first else shape[2]
        if channels in (1, 3):
            return Form("image", channels, is_first)
    if len(shape) == 2 and min(shape) >= 2:
        return Form("map", 1, is_channels_first=False)
    return Form("line", 1, is_channels_first=False)


def _planes(values: Array, form: Form) -> Array:
    """Return the first sample of a batch  # [H, W, C], and of a line [n, 1]."""
    first = values[0] if values.ndim else values
    if form.kind == "line":
        return first.reshape(-1, 1)
    if form.kind == "map":
        return first[..., np.newaxis]
    return first.transpose(1, 2, 0) if form.is_channels_first else first


def _range(extents: Sequence[tuple[Array, Array]], channels: int) -> tuple[Array, Array]:
    """Return what most samples lie within, by channel; 0 to 0 where nothing is finite."""
    if not extents:
        return np.zeros(channels), np.zeros(channels)
    low = np.quantile([low for low, _ in extents], TAIL, axis=0)
    high = np.quantile([high for _, high in extents], 1.0 - TAIL, axis=0)
    return low, high


def _pixels(
    low: Array, high: Array, preprocessing: Preprocessing
) -> tuple[str, Array, Array] | None:
    """Return the way back to pixels from 0 to 255, None where there is none."""
    mean, deviation = (np.asarray(v, np.float64) for v in (preprocessing.mean, preprocessing.std))
    scale, ones = preprocessing.scale, np.ones(low.size)
    ways = [("as before the preprocessing", deviation / scale * ones, mean / scale * ones)]
    if preprocessing == Preprocessing(layout=preprocessing.layout):  # nothing is known of it
        ways = [
            ("pixels as they are", ones, 0 * ones),
            ("0 to 1 shown as black to white", 255.0 * ones, 0 * ones),
            ("-1 to 1 shown as black to white", 127.5 * ones, 127.5 * ones),
        ]
    for words, factor, offset in ways:
        ends = low * factor + offset, high * factor + offset
        if _are_pixels(min(map(np.min, ends)), max(map(np.max, ends))):
            return words, factor, offset
    return None


def _are_pixels(low: float, high: float) -> bool:
    is_within = low >= -PIXEL_SLACK and high <= 255.0 + PIXEL_SLACK
    return is_within and high - low >= LEAST_PIXEL_SPAN


def _stretched(low: Array, high: Array) -> tuple[str, Array, Array]:
    """Stretch what most samples lie within over all of black to white."""
    span = high - low
    usable = np.isfinite(span) & (span > 0.0)
    scale = np.where(usable, 255.0 / np.where(usable, span, 1.0), 1.0)
    offset = np.where(usable, -low * scale, 127.5 - low)
    ends = f"{float(low.min()):.4g} to {float(high.max()):.4g}"
    return f"stretched: {ends} shown as the least to the most", scale, offset


def _colours(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _shrunk(image: Image.Image) -> Image.Image:
    factor = LONGEST / max(image.size)
    if factor >= 1.0:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _line(values: Array) -> Image.Image:
    """Draw values from 0 to 255; of those that share a column, the least to the largest."""
    width, height = LINE_SIZE
    image = Image.new("RGBA", LINE_SIZE, (0, 0, 0, 0))
    if not values.size:
        return image
    pen = ImageDraw.Draw(image)
    rows = (height - 3) * (1.0 - values / 255.0) + 1.0
    if values.size <= width:
        step = (width - 1) / max(values.size - 1, 1)
        places = [(i * step, float(row)) for i, row in enumerate(rows)]
        pen.line(places if len(places) > 1 else [places[0], (width, places[0][1])], fill=INK)
        return image
    edges = np.linspace(0, values.size, width + 1).astype(int)
    for x in range(width):
        part = rows[edges[x] : edges[x + 1]]
        pen.line([(x, math.floor(part.min())), (x, math.ceil(part.max()))], fill=INK)
    return image


def _encoded(image: Image.Image) -> Thumbnail:
    if max(image.size) <= SMALL:
        return _png(image)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return Thumbnail(file.getvalue(), "image/jpeg", *image.size)


def _png(image: Image.Image) -> Thumbnail:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Thumbnail(file.getvalue(), "image/png", *image.size)
