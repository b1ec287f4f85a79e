from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import SampleError
from edgeq.samples.decode import decode_bytes
from edgeq.samples.image import Preprocessing
from edgeq.tflite.runtime import TensorSpec

FLOAT, UINT8 = np.dtype(np.float32), np.dtype(np.uint8)


def _spec(*shape: int, dtype: Any = FLOAT) -> TensorSpec:
    return TensorSpec("image", shape, dtype)


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _decode(
    content: bytes, spec: TensorSpec, name: str = "a.png", **preprocessing: Any
) -> np.ndarray[Any, Any]:
    (sample,) = decode_bytes(content, name, [spec], Preprocessing(**preprocessing))
    return sample.inputs["image"]


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


@pytest.fixture
def png(pixels: np.ndarray[Any, Any]) -> bytes:
    return _file(Image.fromarray(pixels))


def test_pixels_arrive_as_they_are(png: bytes, pixels: Any) -> None:
    value = _decode(png, _spec(1, 4, 6, 3))
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value[0], pixels)


def test_an_integer_input_takes_pixels(png: bytes, pixels: Any) -> None:
    np.testing.assert_array_equal(_decode(png, _spec(1, 4, 6, 3, dtype=UINT8))[0], pixels)


def test_channels_can_be_turned_around(png: bytes, pixels: Any) -> None:
    value = _decode(png, _spec(1, 4, 6, 3), channels="bgr")
    np.testing.assert_array_equal(value[0], pixels[..., ::-1])


def test_channels_can_come_first(png: bytes, pixels: Any) -> None:
    value = _decode(png, _spec(1, 3, 4, 6), layout="nchw")
    np.testing.assert_array_equal(value[0], pixels.transpose(2, 0, 1))


def test_values_are_scaled_then_centered(png: bytes, pixels: Any) -> None:
    options = {"scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    value = _decode(png, _spec(1, 4, 6, 3), **options)
    expected = (pixels / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(value[0], expected, rtol=1e-6, atol=1e-6)


def test_mean_and_std_follow_the_models_channel_order(png: bytes, pixels: Any) -> None:
    value = _decode(png, _spec(1, 4, 6, 3), channels="bgr", mean=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(value[0], pixels[..., ::-1] - np.array([1.0, 2, 3]))


@pytest.mark.parametrize("shape", [(1, 4, 6, 1), (1, 4, 6)])
def test_a_model_with_one_channel_gets_gray(png: bytes, shape: Any) -> None:
    value = _decode(png, _spec(*shape))
    gray = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    np.testing.assert_array_equal(value.reshape(4, 6), gray)


def test_a_uniform_image_stays_uniform_at_any_size() -> None:
    png = _file(Image.new("RGB", (31, 17), (10, 20, 30)))
    for resize in ("bilinear", "nearest", "area"):
        for crop in ("none", "center"):
            value = _decode(png, _spec(1, 8, 8, 3), resize=resize, crop=crop)
            np.testing.assert_array_equal(value[0], np.broadcast_to([10, 20, 30], (8, 8, 3)))


def test_area_is_the_mean_of_what_each_pixel_covers(pixels: Any, png: bytes) -> None:
    value = _decode(png, _spec(1, 2, 3, 3), resize="area")
    expected = pixels.reshape(2, 2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(value[0], expected, atol=1)  # 8-bit rounding per direction


def test_nearest_invents_no_value(pixels: Any, png: bytes) -> None:
    value = _decode(png, _spec(1, 3, 3, 3), resize="nearest")
    assert {tuple(v) for v in value[0].reshape(-1, 3)} <= {tuple(v) for v in pixels.reshape(-1, 3)}


def test_center_crop_keeps_the_middle() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 200
    png = _file(Image.fromarray(image))
    np.testing.assert_array_equal(_decode(png, _spec(1, 4, 4, 3), crop="center"), 200)
    assert _decode(png, _spec(1, 4, 4, 3)).min() < 100


def test_free_extents_need_a_size(png: bytes) -> None:
    spec = _spec(1, -1, -1, 3)
    with pytest.raises(SampleError, match=r"\[1, -1, -1, 3\]") as caught:
        _decode(png, spec)
    assert "preprocessing.size" in caught.value.hint
    assert _decode(png, spec, size=(3, 2)).shape == (1, 2, 3, 3)


def test_a_size_that_the_model_does_not_take_is_refused(png: bytes) -> None:
    with pytest.raises(SampleError, match=r"\[3, 2, 3\].*the model takes \[1, 4, 6, 3\]"):
        _decode(png, _spec(1, 4, 6, 3), size=(2, 3))


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "1", "CMYK"])
def test_every_8_bit_mode_is_read(mode: str) -> None:
    kind, name = ("JPEG", "a.jpg") if mode == "CMYK" else ("PNG", "a.png")
    value = _decode(_file(Image.new(mode, (9, 7)), kind), _spec(1, 4, 6, 3), name)
    assert value.shape == (1, 4, 6, 3)


def test_the_exif_orientation_is_applied() -> None:
    image = Image.fromarray(np.repeat(np.arange(0, 256, 8, np.uint8)[None, :, None], 3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees
    value = _decode(_file(image, "JPEG", exif=exif, quality=95), _spec(1, 32, 1, 3), "a.jpeg")
    assert value[0, 0].mean() < value[0, -1].mean()


def test_16_bit_images_are_refused_and_not_clipped() -> None:
    png = _file(Image.fromarray(np.full((4, 4), 40000, np.uint16)))
    with pytest.raises(SampleError, match="more than 8 bits"):
        _decode(png, _spec(1, 4, 4, 1))


def _bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(8000, 8000), (12000, 9000), (100_000, 100_000)])
def test_a_decompression_bomb_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(SampleError, match=r"pixels|too large"):
        _decode(_bomb(*size), _spec(1, 4, 4, 3))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"mean": (1.0, 2.0)}, "mean has 2 values"), ({"std": (0.0,)}, "std has a 0"),
     ({"std": (1.0, 1.0)}, "std has 2")],
)  # fmt: skip
def test_preprocessing_that_does_not_fit_is_refused(
    png: bytes, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SampleError, match=reason):
        _decode(png, _spec(1, 4, 6, 3), **options)


def test_a_model_that_takes_no_image_is_named(png: bytes) -> None:
    with pytest.raises(SampleError, match=r"a\.png: an image cannot be input 'image'.*\[1, 640\]"):
        _decode(png, _spec(1, 640))


def test_a_gif_named_png_is_refused() -> None:
    with pytest.raises(SampleError, match="not a readable PNG or JPEG"):
        _decode(_file(Image.new("L", (4, 4)), "GIF"), _spec(1, 4, 4, 3))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_images_raise_sample_error_and_nothing_else(kind: str, pixels: Any) -> None:
    content = _file(Image.fromarray(pixels.repeat(8, 0)), kind)
    choose = random.Random(1)
    for _ in range(150):
        damaged = bytearray(content)
        damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        for attempt in (bytes(damaged), content[: choose.randrange(len(content))]):
            try:
                _decode(attempt, _spec(1, 4, 6, 3))
            except SampleError:
                continue
