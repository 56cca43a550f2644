"""JPEG artefacts: what is drawn, what is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines import images
from pipelines.degradations import Jpeg
from pipelines.images import ImageError

photos = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)


@settings(max_examples=50, deadline=None)
@given(photos, st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(gt, seed):
    before = gt.copy()
    lq = Jpeg(quality=(10, 95))(gt, np.random.default_rng(seed))
    assert lq.dtype == gt.dtype
    assert lq.shape == gt.shape
    assert np.array_equal(lq, Jpeg(quality=(10, 95))(gt, np.random.default_rng(seed)))
    assert np.array_equal(gt, before)


def test_every_quality_of_the_range_is_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(images, "recompress", lambda _, quality: drawn.append(quality))
    rng = np.random.default_rng(0)
    for _ in range(200):
        Jpeg(quality=(10, 13))(np.zeros((1, 1, 3), np.uint8), rng)
    assert set(drawn) == {10, 11, 12, 13}


def test_lower_quality_is_further_away_and_the_highest_is_near():
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    gt = np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)
    errors = [
        np.abs(images.recompress(gt, quality).astype(int) - gt).mean() for quality in (10, 50, 100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1.5


def test_channels_keep_their_order():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert images.recompress(red, 95).mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=3)


def test_sixteen_bits_are_rounded_to_eight():
    levels = np.array([[[0], [128], [129], [65535]]], np.uint16)
    assert images.eight_bit(levels).ravel().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("quality", [(0, 10), (20, 10), (90, 101)])
def test_an_empty_range_is_refused(quality):
    with pytest.raises(ValueError, match="is not 1 <= low <= high <= 100; use for example"):
        Jpeg(quality=quality)


def test_a_quality_beyond_the_scale_is_refused():
    with pytest.raises(ImageError, match="JPEG quality 0 is outside 1 to 100"):
        images.recompress(np.zeros((8, 8, 1), np.uint8), 0)
