"""Haze: what is kept, and how light fades."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.haze import Haze
from tests.pictures import photos


@settings(max_examples=20, deadline=None)
@given(photos, st.integers(0, 2**32))
def test_clear_air_is_the_identity(gt, seed):
    assert np.array_equal(Haze(beta=(0, 0))(gt, np.random.default_rng(seed)), gt)


@settings(max_examples=20, deadline=None)
@given(photos, st.integers(0, 2**32))
def test_haze_lies_between_the_scene_and_the_air(gt, seed):
    haze = Haze(airlight=(1, 1), cast=0)
    lq = haze(gt, np.random.default_rng(seed))
    assert (lq >= gt - (1e-6 if gt.dtype == np.float32 else 0)).all()
    if gt.dtype == np.float32:
        assert lq.max() <= 1 + 1e-6


def test_black_shows_the_transmission_and_white_in_white_air_stays():
    haze = Haze(airlight=(1, 1), beta=(1.5, 1.5), cast=0)
    black = haze(np.zeros((40, 50, 3), np.float32), np.random.default_rng(5))
    white = haze(np.ones((40, 50, 3), np.float32), np.random.default_rng(5))
    assert black.min() >= 0
    assert black.max() <= 1 - np.exp(-1.5) + 1e-6
    assert white == pytest.approx(1)


def test_contrast_falls_as_scattering_grows():
    gt = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    contrasts = [
        Haze(beta=(beta, beta))(gt, np.random.default_rng(1)).std() for beta in (0, 0.6, 1.2, 1.8)
    ]
    assert contrasts == sorted(contrasts, reverse=True)


def test_the_air_is_warm_or_cool_but_grey_stays_grey_without_a_cast():
    black = np.zeros((32, 32, 3), np.float32)
    tints = []
    for seed in range(30):
        red, green, blue = Haze()(black, np.random.default_rng(seed)).mean(axis=(0, 1))
        assert green == pytest.approx((red + blue) / 2, abs=0.02)
        tints.append(red - blue)
    assert min(tints) < 0 < max(tints)
    plain = Haze(cast=0)(black, np.random.default_rng(0))
    assert np.array_equal(plain[..., 0], plain[..., 2])


@pytest.mark.parametrize("fields", [{"beta": (2, 1)}, {"airlight": (0, 2)}, {"cast": 2}])
def test_what_is_no_haze_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Haze(**fields)
