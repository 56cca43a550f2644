"""Rain: what is kept, how streaks lie, and the veil."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.haze import Haze
from pipelines.degradations.rain import Rain, Slant, sparse_lines
from tests.pictures import photos


@pytest.mark.parametrize("dry", [{"density": (0, 0)}, {"gain": (0, 0)}])
@settings(max_examples=20, deadline=None)
@given(gt=photos, seed=st.integers(0, 2**32))
def test_no_rain_and_no_veil_is_the_identity(dry, gt, seed):
    assert np.array_equal(Rain(veil=0, **dry)(gt, np.random.default_rng(seed)), gt)


@settings(max_examples=30, deadline=None)
@given(photos, st.integers(0, 2**32), st.sampled_from([0, 1]))
def test_streaks_brighten_and_never_darken(gt, seed, screen):
    lq = Rain(veil=0, screen=screen)(gt, np.random.default_rng(seed))
    assert (lq >= gt).all()
    if gt.dtype == np.float32 and screen:
        assert lq.max() <= 1 + 1e-6


@pytest.mark.parametrize("angle", [-40, -15, 0, 25, 45])
def test_streaks_lie_along_the_angle(angle):
    rain = Rain(angle=(angle, angle), veil=0)
    streaks = rain.streaks((256, 256), np.random.default_rng(0))
    dx, dy = cv2.Sobel(streaks, -1, 1, 0), cv2.Sobel(streaks, -1, 0, 1)
    # The structure tensor: brightness changes most across a streak.
    across = 0.5 * math.atan2(2 * (dx * dy).mean(), (dx * dx - dy * dy).mean())
    assert math.degrees(across) == pytest.approx(angle, abs=3)


@pytest.mark.parametrize("angle", [-90, -30, 0, 45, 90])
def test_rain_falls_on_all_of_the_image(angle):
    rain = Rain(angle=(angle, angle), density=(0.02, 0.02))
    mean = np.mean(
        [rain.streaks((40, 90), np.random.default_rng(seed)) for seed in range(60)], axis=0
    )
    parts = cv2.resize(mean, (6, 4), interpolation=cv2.INTER_AREA)
    assert parts.min() > 0.75 * parts.mean()
    assert parts.max() < 1.25 * parts.mean()


def test_lines_are_as_long_as_told_and_as_bright_all_along():
    sheet = sparse_lines((9, 9000), np.array([30.0]), np.random.default_rng(3))
    lit = sheet.sum(axis=0)
    assert np.count_nonzero(lit > 1e-6) == 30
    assert 0.25 <= lit.max() <= 1
    assert np.ptp(lit[lit > 1e-6]) < 1e-6


def test_a_sheet_without_a_slant_is_turned_by_itself():
    slant = Slant(size=(20, 30), angle=0.0, margin_px=5)
    sheet = np.random.default_rng(0).random(slant.sheet, dtype=np.float32)
    upright = slant.upright(sheet)
    assert upright.shape == (20, 30)
    assert upright.mean() == pytest.approx(0.5, abs=0.03)


def test_more_rain_is_brighter():
    black = np.zeros((96, 96, 1), np.float32)
    means = [
        Rain(density=(share, share), veil=0)(black, np.random.default_rng(0)).mean()
        for share in (0.0, 0.005, 0.01, 0.02)
    ]
    assert means == sorted(means)
    assert means[1] > 0


def test_the_veil_is_haze_over_the_rain():
    gt = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    fog = Haze(airlight=(0.8, 0.8), beta=(50, 50), cast=0)
    veiled = Rain(veil=1, mist=fog)(gt, np.random.default_rng(1))
    clear = Rain(veil=0, mist=fog)(gt, np.random.default_rng(1))
    assert veiled[:8].mean() == pytest.approx(0.8, abs=0.01)
    assert clear.std() > 2 * veiled.std()


@pytest.mark.parametrize(
    "fields",
    [{"density": (0.1, 0)}, {"length_px": (0, 5)}, {"angle": (0, 120)}, {"gain": (0, 2)}],
)
def test_what_is_no_rain_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Rain(**fields)
