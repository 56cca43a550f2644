"""Linear light and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.degradations.linear_light import encoded, from_linear, to_linear, unclipped

photos = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 9)] * 2, st.sampled_from([1, 3, 6])),
)


@settings(deadline=None)
@given(photos)
def test_levels_survive_the_way_to_light_and_back(gt):
    light = to_linear(gt)
    assert light.dtype == np.float32
    assert light.shape == gt.shape
    assert np.array_equal(from_linear(light, gt), gt)


def test_every_level_survives():
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        gt = np.arange(2**bits, dtype=dtype).reshape(-1, 16, 1)
        assert np.array_equal(from_linear(to_linear(gt), gt), gt)


def test_floats_and_levels_follow_the_same_curve():
    gt = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    floats = (gt / 255).astype(np.float32)
    assert to_linear(gt) == pytest.approx(to_linear(floats), abs=1e-6)
    assert encoded(to_linear(floats)) == pytest.approx(floats, abs=1e-6)


def test_middle_grey_is_a_fifth_of_the_light_and_nothing_leaves_the_range():
    values = np.array([[[-0.5], [0.0], [0.5], [1.0]]], np.float32)
    assert to_linear(values).ravel() == pytest.approx([0, 0, 0.2176, 1], abs=1e-4)
    assert encoded(values * 2).ravel() == pytest.approx([0, 0, 1, 1], abs=1e-4)


def test_the_curve_is_near_that_of_srgb():
    gt = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1)
    light = to_linear(gt).astype(np.float64)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    away = np.abs(255 * srgb - gt)
    assert away.max() < 9
    assert away[64:].max() < 3


def test_whites_alone_were_brighter_than_the_file_says():
    light = np.array(
        [[[0, 0, 0], [1, 1, 0.5], [0.98, 0.98, 1], [0.99, 1, 1], [1, 1, 1]]], np.float32
    )
    gains = unclipped(light, 3) / np.maximum(light, 1e-6)
    assert gains[0, :, 1] == pytest.approx([0, 1, 1, 2, 3], rel=1e-4)
    assert unclipped(light, 1) == pytest.approx(light)
    assert unclipped(light[..., :1], 3).ravel() == pytest.approx([0, 3, 0.98, 1.98, 3], rel=1e-4)
