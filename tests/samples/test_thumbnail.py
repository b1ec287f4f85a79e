"""Inputs of models as small pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edgeq.samples.image import Preprocessing
from edgeq.samples.thumbnail import LINE_SIZE, LONGEST, Display, display_of, extent_of, form_of

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (6, 12, 10, 3)).astype(np.float32)
PIXELS[:, 0, 0], PIXELS[:, 0, 1] = 0, 255


def displayed(samples: list[np.ndarray], **preprocessing: object) -> Display:
    options = Preprocessing(**preprocessing)
    form = form_of(samples[0], options)
    extents = [extent_of(form, each) for each in samples]
    return display_of(form, [each for each in extents if each is not None], options)


def shown(display: Display, values: np.ndarray) -> np.ndarray:
    picture = display.thumbnail(values)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (picture.width, picture.height)
        assert picture.media == f"image/{image.format.lower()}"
        return np.asarray(image)


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [((127.5,), (127.5,), 1.0), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)],
)
def test_an_image_is_shown_as_before_the_preprocessing(mean, std, scale):
    given = (PIXELS * scale - np.array(mean)) / np.array(std)
    samples = [each[None].astype(np.float32) for each in given]
    display = displayed(samples, mean=mean, std=std, scale=scale)
    assert display.words == "as before the preprocessing"
    assert np.abs(shown(display, samples[0]) - PIXELS[0]).max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda x: x, "pixels as they are"), (lambda x: x / 255, "0 to 1"),
     (lambda x: x / 127.5 - 1, "-1 to 1")],
)  # fmt: skip
def test_the_usual_ranges_need_no_sidecar(change, words):
    samples = [change(each)[None].astype(np.float32) for each in PIXELS]
    display = displayed(samples)
    assert words in display.words
    assert np.abs(shown(display, samples[0]) - PIXELS[0]).max() <= 1


def test_a_dark_frame_among_others_stays_dark():
    samples = [each[None] * 1000 for each in PIXELS]
    samples[3] = samples[3] * 0.2
    display = displayed(samples)
    assert display.words.startswith("stretched")
    assert shown(display, samples[3]).mean() < 0.3 * shown(display, samples[0]).mean()


def test_one_sample_of_extremes_does_not_flatten_the_others():
    samples = [each[None] * 1000 for each in np.concatenate([PIXELS] * 5)]
    samples[7] = samples[7] * 1e30
    display = displayed(samples)
    assert shown(display, samples[0]).std() > 50


def test_channels_may_come_first_and_in_reverse():
    first = [each.transpose(2, 0, 1)[None] for each in PIXELS]
    assert np.array_equal(shown(displayed(first), first[0]), PIXELS[0])
    assert np.array_equal(shown(displayed(first, layout="nchw"), first[0]), PIXELS[0])
    samples = [each[None] for each in PIXELS]
    reverse = shown(displayed(samples, channels="bgr"), samples[0])
    assert np.array_equal(reverse, PIXELS[0][..., ::-1])


def test_large_images_are_made_small():
    large = DRAW.uniform(0, 255, (1, 300, 200, 3)).astype(np.float32)
    picture = displayed([large]).thumbnail(large)
    assert (picture.width, picture.height) == (round(200 * LONGEST / 300), LONGEST)
    assert picture.media == "image/jpeg"


def test_features_are_a_map_and_numbers_a_line():
    features = [DRAW.normal(size=(1, 49, 10, 1)) * 50 for _ in range(4)]
    assert displayed(features).is_map
    assert displayed([each[..., 0] for each in features]).is_map
    line = [DRAW.normal(size=(1, 640)) for _ in range(4)]
    drawn = shown(displayed(line), line[0])
    assert drawn.shape[:2] == LINE_SIZE[::-1]
    assert (drawn[..., 3] > 0).any(axis=0).all()  # no column without its values


@pytest.mark.parametrize("shape", [(1, 1), (1,), (1, 3), (1, 0), (1, 8, 0, 3), (1, 2, 2, 2, 2)])
def test_odd_shapes_have_a_picture_too(shape):
    values = np.ones(shape, np.float32)
    shown(displayed([values]), values)


@pytest.mark.parametrize("least", [1e-44, -3e38])
def test_values_of_any_size_are_told_apart(least):
    values = np.array([[0.0, least]], np.float32)
    drawn = shown(displayed([values]), values)
    assert (drawn[..., 3] > 0).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_is_shown_as_something(value):
    image, line = np.full((1, 4, 4, 3), value, np.float32), np.full((1, 9), value, np.float32)
    for values in (image, line):
        shown(displayed([values]), values)
    mixed = PIXELS[0][None].copy()
    mixed[0, 2, 2] = value
    assert np.array_equal(shown(displayed([PIXELS[0][None]]), mixed)[3:], PIXELS[0][3:])
