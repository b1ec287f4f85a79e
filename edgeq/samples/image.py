"""A PNG or JPEG -> one model input, by the sidecar's preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from edgeq.errors import SampleError
from edgeq.tflite.runtime import TensorSpec

Array = npt.NDArray[Any]

Resize = Literal["bilinear", "nearest", "area"]
Crop = Literal["none", "center"]
Channels = Literal["rgb", "bgr", "gray"]
Layout = Literal["nhwc", "nchw"]

MAX_PIXELS = 50_000_000  # 150 MB decoded; a PNG of a few kilobytes can claim any size
_FORMATS = ("PNG", "JPEG")
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow would clip them to 8 bits
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,  # antialiased when it shrinks
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: value = (pixel * scale - mean) / std, pixel in 0..255.

    `mean` and `std` have one value, or one per channel in the order the model takes them.
    `crop="center"` keeps the aspect and cuts the longer side; "none" stretches.
    """

    size: tuple[int, int] | None = None  # (width, height); None takes the model's
    resize: Resize = "bilinear"
    crop: Crop = "none"
    channels: Channels = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    layout: Layout = "nhwc"


def read_image(stream: IO[bytes], spec: TensorSpec, preprocessing: Preprocessing) -> Array:
    """Return an image as float64 [H, W, C] or [C, H, W] by the layout; [H, W] for a rank-3 input.

    An orientation in the EXIF data is applied. A model with one channel gets gray.

    Raises:
        SampleError: not an 8-bit PNG or JPEG, damaged, too large, or the model takes no image.
    """
    size, channels = _target(spec, preprocessing)
    image = _decoded(stream).convert("L" if channels == "gray" else "RGB")
    pixels = np.asarray(_resized(image, size, preprocessing), np.float64)
    if channels == "bgr":
        pixels = pixels[..., ::-1]
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    values = _normalized(pixels, preprocessing)  # [H, W, C]
    if len(spec.shape) == 3:
        return values[..., 0]
    return values.transpose(2, 0, 1) if preprocessing.layout == "nchw" else values


def _target(spec: TensorSpec, preprocessing: Preprocessing) -> tuple[tuple[int, int], Channels]:
    """Return (width, height) and the channels that the model's input asks for."""
    if len(spec.shape) == 3:  # [N, H, W]
        height, width, depth = spec.shape[1], spec.shape[2], 1
    elif len(spec.shape) == 4 and preprocessing.layout == "nhwc":
        height, width, depth = spec.shape[1:]
    elif len(spec.shape) == 4:
        depth, height, width = spec.shape[1:]
    else:
        raise SampleError(
            f"an image cannot be input {spec.name!r} of shape {list(spec.shape)}; it has 4 "
            "dimensions (or 3, for gray)",
            hint="Give the samples as .npy or .npz.",
        )
    width, height = preprocessing.size or (width, height)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise SampleError(
            f"input {spec.name!r} of shape {list(spec.shape)} does not say how large an image is",
            hint="Set preprocessing.size to [width, height] in the sidecar.",
        )
    return (width, height), "gray" if depth == 1 else preprocessing.channels


def _decoded(stream: IO[bytes]) -> Image.Image:
    try:
        image: Image.Image = Image.open(stream, formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise SampleError(
                f"the image has {image.width} x {image.height} pixels; at most {MAX_PIXELS} "
                "are decoded",
                hint="Scale it down first.",
            )
        image.load()
        image = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError(
            f"the image is too large: {error}", hint="Scale it down first."
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError) as error:
        raise SampleError(
            f"it is not a readable PNG or JPEG: {error}", hint="Copy or export the image again."
        ) from error
    if image.mode in _WIDE_MODES:
        raise SampleError(
            f"the image has more than 8 bits a channel (mode {image.mode}); 8 are read",
            hint="Convert it to 8 bits, or give its values as .npy.",
        )
    return image


def _resized(
    image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing
) -> Image.Image:
    if image.size == size:
        return image
    is_cut = preprocessing.crop == "center"
    box = _center_box(image.size, size) if is_cut else (0, 0, *image.size)
    return image.resize(size, _FILTERS[preprocessing.resize], box=box)


def _center_box(
    source: tuple[int, int], target: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the largest centered part of `source` with the aspect of `target`."""
    factor = min(source[0] / target[0], source[1] / target[1])
    width, height = min(target[0] * factor, source[0]), min(target[1] * factor, source[1])
    left, top = (source[0] - width) / 2, (source[1] - height) / 2
    return left, top, left + width, top + height


def _normalized(pixels: Array, preprocessing: Preprocessing) -> Array:
    depth = pixels.shape[-1]
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(values) not in (1, depth):
            raise SampleError(
                f"preprocessing.{name} has {len(values)} values; the model takes {depth} channels",
                hint=f"Give preprocessing.{name} one value, or one per channel.",
            )
    if not all(preprocessing.std):
        raise SampleError("preprocessing.std has a 0", hint="Give each std a value other than 0.")
    mean, std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)
    result: Array = (pixels * preprocessing.scale - mean) / std
    return result
