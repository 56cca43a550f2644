"""Snow: what is kept, how flakes lie and drift, and the veil."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.haze import Haze
from pipelines.degradations.snow import Drift, Snow
from tests.pictures import photos


@pytest.mark.parametrize("clear", [{"density": (0, 0)}, {"opacity": (0, 0)}])
@settings(max_examples=20, deadline=None)
@given(gt=photos, seed=st.integers(0, 2**32))
def test_no_flakes_and_no_veil_is_the_identity(clear, gt, seed):
    assert np.array_equal(Snow(veil=0, **clear)(gt, np.random.default_rng(seed)), gt)


@settings(max_examples=30, deadline=None)
@given(photos, st.integers(0, 2**32))
def test_flakes_lie_between_the_scene_and_white(gt, seed):
    lq = Snow(veil=0, white=(1, 1))(gt, np.random.default_rng(seed))
    assert (lq >= gt - (1e-6 if gt.dtype == np.float32 else 0)).all()
    if gt.dtype == np.float32:
        assert lq.max() <= 1 + 1e-6


def test_a_scene_as_white_as_snow_stays():
    gt = np.full((64, 64, 3), 0.9, np.float32)
    assert Snow(veil=0, white=(0.9, 0.9))(gt, np.random.default_rng(0)) == pytest.approx(0.9)


def test_opacity_is_within_its_range_and_reached():
    snow = Snow(opacity=(0.8, 0.8), density=(0.02, 0.02), motion_px=(0, 0))
    flakes = snow.flakes((256, 256), np.random.default_rng(0))
    assert flakes.min() >= 0
    assert flakes.max() <= 1
    # Flakes upon flakes of another layer hide more than one.
    assert 0.75 < np.quantile(flakes, 0.995) < 0.97


@pytest.mark.parametrize("angle", [-45, 0, 30])
def test_flakes_drift_along_the_angle(angle):
    snow = Snow(angle=(angle, angle), motion_px=(16, 16), density=(0.01, 0.01))
    flakes = snow.flakes((256, 256), np.random.default_rng(0))
    dx, dy = cv2.Sobel(flakes, -1, 1, 0), cv2.Sobel(flakes, -1, 0, 1)
    # The structure tensor: opacity changes most across the way.
    across = 0.5 * math.atan2(2 * (dx * dy).mean(), (dx * dx - dy * dy).mean())
    assert math.degrees(across) == pytest.approx(angle, abs=6)


def test_ways_have_about_the_length_and_the_direction():
    ways = Drift(angle=20, motion_px=10).ways(500, np.random.default_rng(0))
    lengths = np.linalg.norm(ways, axis=1)
    assert lengths.min() >= 6
    assert lengths.max() <= 10
    assert math.degrees(math.atan2(-ways[:, 0].mean(), ways[:, 1].mean())) == pytest.approx(
        20, abs=2
    )


def test_snow_falls_on_all_of_the_image():
    snow = Snow(density=(0.02, 0.02))
    mean = np.mean(
        [snow.flakes((40, 90), np.random.default_rng(seed)) for seed in range(100)], axis=0
    )
    parts = cv2.resize(mean, (6, 4), interpolation=cv2.INTER_AREA)
    assert parts.min() > 0.75 * parts.mean()
    assert parts.max() < 1.25 * parts.mean()


def test_more_flakes_hide_more():
    means = [
        Snow(density=(share, share)).flakes((128, 128), np.random.default_rng(0)).mean()
        for share in (0.0, 0.003, 0.006, 0.012)
    ]
    assert means == sorted(means)
    assert means[1] > 0


def test_the_veil_lies_behind_the_flakes():
    gt = np.zeros((64, 64, 3), np.float32)
    fog = Haze(airlight=(0.5, 0.5), beta=(50, 50), cast=0)
    veiled = Snow(density=(0.004, 0.004), veil=1, mist=fog, white=(1, 1))(
        gt, np.random.default_rng(1)
    )
    assert np.median(veiled[:16]) == pytest.approx(0.5, abs=0.01)
    assert veiled[:16].max() > 0.7


@pytest.mark.parametrize(
    "fields",
    [
        {"density": (0.1, 0)},
        {"opacity": (0.5, 1.5)},
        {"motion_px": (-1, 5)},
        {"angle": (0, 120)},
        {"white": (0.9, 2)},
        {"veil": 2},
    ],
)
def test_what_is_no_snow_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Snow(**fields)
