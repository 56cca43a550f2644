"""Cutting samples: what is cut from where, and that surroundings are those of the image."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pairs import Captured, Synthesised
from pipelines.pixels import like, to_float
from pipelines.scenes import Crop, Decoded, Form, Scene

RGB = Form(bits=8, channels=3)


class Box:
    """Blur over 5 x 5 pixels."""

    margin_px = 2

    def __call__(self, gt, rng):
        blurred = cv2.blur(to_float(gt), (5, 5), borderType=cv2.BORDER_REFLECT_101)
        return like(blurred.reshape(gt.shape), gt)


class Mean:
    """Means of 2 x 2 pixels."""

    scale = 2

    def __call__(self, gt, rng):
        height, width, channels = gt.shape
        return (
            gt.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3)).astype(gt.dtype)
        )


def photo(height=37, width=45, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@given(seed=st.integers(0, 10**6), channels=st.sampled_from([1, 3]))
def test_a_turned_crop_is_what_numpy_turns(seed, channels):
    rng = np.random.default_rng(seed)
    image = photo(channels=channels)
    crop = Crop.draw(image.shape, 8, Synthesised(Box()), rng)
    cut = Decoded(image).crop(crop.top, crop.left, crop.height, crop.width)
    wanted = np.rot90(cut, crop.turns)
    assert np.array_equal(crop.turn(cut), wanted[:, ::-1] if crop.mirrored else wanted)


@given(seed=st.integers(0, 10**6))
def test_surroundings_are_those_of_the_image_not_a_reflection_of_the_crop(seed):
    image, pairs, rng = photo(), Synthesised(Box()), np.random.default_rng(seed)
    crop = Crop.draw(image.shape, 8, pairs, rng)
    gt, lq = Scene(Decoded(image)).cut(crop, pairs, RGB, rng)
    inside = (slice(crop.top, crop.top + 8), slice(crop.left, crop.left + 8))
    assert np.array_equal(gt, crop.turn(image[inside]))
    assert np.array_equal(lq, crop.turn(Box()(image, rng)[inside]))


@given(seed=st.integers(0, 10**6))
def test_a_crop_of_super_resolution_starts_at_a_pixel_of_lq(seed):
    image, pairs, rng = photo(), Synthesised(Mean()), np.random.default_rng(seed)
    crop = Crop.draw(image.shape, 8, pairs, rng)
    gt, lq = Scene(Decoded(image)).cut(crop, pairs, RGB, rng)
    small = Mean()(image[:36, :44], rng)
    inside = small[crop.top // 2 : crop.top // 2 + 4, crop.left // 2 : crop.left // 2 + 4]
    assert gt.shape == (8, 8, 3)
    assert np.array_equal(lq, crop.turn(inside))


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1, 2]))
def test_captured_lq_is_cut_and_turned_as_its_gt(seed, scale):
    image, rng = photo(36, 44), np.random.default_rng(seed)
    small = image[::scale, ::scale]
    pairs = Captured(scale=scale)
    crop = Crop.draw(image.shape, 8, pairs, rng)
    gt, lq = Scene(Decoded(image), (Decoded(small),)).cut(crop, pairs, RGB, rng)
    assert np.array_equal(gt, crop.turn(image[crop.top :, crop.left :][:8, :8]))
    area = small[crop.top // scale :, crop.left // scale :][: 8 // scale, : 8 // scale]
    assert np.array_equal(lq, crop.turn(area))


@given(seed=st.integers(0, 10**6))
def test_the_views_of_a_lens_stay_left_and_right(seed):
    # A point in front of the focal plane lies farther right in one view than in the other.
    rng = np.random.default_rng(seed)
    image, left, right = (np.zeros((24, 24, 3), np.uint8) for _ in range(3))
    image[8:16, 11:13], left[8:16, 9:11], right[8:16, 13:15] = 255, 255, 255
    pairs = Captured(views=2)
    crop = Crop.draw(image.shape, 24, pairs, rng)
    _, lq = Scene(Decoded(image), (Decoded(left), Decoded(right))).cut(crop, pairs, RGB, rng)
    centres = [np.argwhere(lq[:, :, channel])[:, 1].mean() for channel in (0, 3)]
    assert centres[0] < centres[1]
    assert lq.shape == (24, 24, 6)


@pytest.mark.parametrize(("shape", "scale"), [((37, 45, 3), 4), ((9, 100, 3), 2), ((16, 16, 3), 1)])
def test_the_centre_is_as_much_as_there_is_and_whole_pixels_of_lq(shape, scale):
    crop = Crop.centre(shape, 16, scale)
    assert crop.height == min(16, shape[0] // scale * scale)
    assert crop.width == min(16, shape[1] // scale * scale)
    assert crop.top % scale == crop.left % scale == 0
    assert abs(2 * crop.top + crop.height - shape[0]) <= 2 * scale


def test_grey_and_sixteen_bits_are_forms():
    colour = np.array([[[0, 128, 255]]], np.uint8)
    assert Form(bits=16, channels=3)(colour).tolist() == [[[0, 32896, 65535]]]
    assert Form(bits=8, channels=1)(colour).shape == (1, 1, 1)
    assert Form(bits=8, channels=3)(colour[:, :, :1]).tolist() == [[[0, 0, 0]]]
