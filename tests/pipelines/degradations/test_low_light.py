"""Low light: the curve, and the noise on it."""

import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.degradations.low_light import LowLight
from pipelines.degradations.sensor_noise import PoissonGaussian
from tests.pictures import photos, seeds


@settings(max_examples=50, deadline=None)
@given(photos, seeds)
def test_factors_and_power_of_one_without_noise_are_the_identity(gt, seed):
    still = LowLight(alpha=(1, 1), beta=(1, 1), gamma=(1, 1), noise=None)
    assert np.array_equal(still(gt, np.random.default_rng(seed)), gt)


@settings(max_examples=50, deadline=None)
@given(photos, seeds)
def test_without_noise_nothing_becomes_brighter(gt, seed):
    assert (LowLight(noise=None)(gt, np.random.default_rng(seed)) <= gt).all()


def test_the_curve_is_the_published_one():
    gt = np.array([[[0], [64], [128], [255]]], np.uint8)
    dim = LowLight(alpha=(0.9, 0.9), beta=(0.5, 0.5), gamma=(2, 2), noise=None)
    expected = np.round(255 * 0.5 * (0.9 * gt / 255) ** 2)
    assert dim(gt, np.random.default_rng(0)) == pytest.approx(expected)


def test_the_darker_photo_is_noisier_for_its_light():
    gt = np.full((64, 64, 3), 200, np.uint16) * 257
    noise = PoissonGaussian(shot=(4e-3, 4e-3), demosaic=0)
    ratios = []
    for gamma in (1.5, 3):
        lq = LowLight(gamma=(gamma, gamma), noise=noise)(gt, np.random.default_rng(0))
        ratios.append(lq.std() / lq.mean())
    assert ratios[1] > 1.3 * ratios[0] > 0.02


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"alpha": (1, 0.9)}, r"alpha \(1, 0.9\) is not 0 < low <= high <= 1; use for example"),
        ({"beta": (0.5, 2)}, r"beta \(0.5, 2\) is not 0 < low <= high <= 1"),
        ({"gamma": (0.5, 2)}, r"gamma \(0.5, 2\) is not 1 <= low <= high; use for example"),
    ],
)
def test_bad_ranges_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        LowLight(**bad)
