"""Poisson noise: its peak, its variance, its grey variant."""

import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.degradations.poisson_noise import PoissonNoise, poisson
from tests.pictures import photos, seeds


@settings(max_examples=50, deadline=None)
@given(photos, seeds)
def test_strength_zero_is_the_identity(gt, seed):
    lq = PoissonNoise(strength=(0, 0))(gt, np.random.default_rng(seed))
    assert np.array_equal(lq, gt)


@pytest.mark.parametrize(("num_levels", "peak"), [(2, 2), (3, 4), (64, 64), (65, 128), (256, 256)])
def test_the_peak_is_the_number_of_levels_raised_to_a_power_of_two(num_levels, peak):
    levels = np.full((256, 256, 1), 255, np.uint8)
    levels[0, :num_levels, 0] = 255 - np.arange(num_levels)
    noise = poisson(levels, np.random.default_rng(0))[1:]
    photons = (1 + noise) * peak
    assert photons == pytest.approx(np.round(photons), abs=1e-3)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.var() == pytest.approx(1 / peak, rel=0.05)


def test_strength_is_a_factor_of_the_noise():
    gt = np.full((64, 64, 3), 0.5, np.float32)
    gt[0] = np.linspace(0.4, 0.6, 64 * 3).reshape(64, 3)
    noises = [
        PoissonNoise(strength=(strength, strength), grey=0)(gt, np.random.default_rng(0)) - gt
        for strength in (0.5, 1)
    ]
    assert 2 * noises[0] == pytest.approx(noises[1], abs=1e-6)


def test_grey_noise_is_the_same_in_every_channel():
    gt = np.random.default_rng(0).uniform(0.3, 0.7, (64, 64, 3)).astype(np.float32)
    for grey in (0, 1):
        noise = PoissonNoise(strength=(0.5, 0.5), grey=grey)(gt, np.random.default_rng(0)) - gt
        assert np.allclose(noise, noise[..., :1], atol=1e-6) == bool(grey)
        assert noise.std() > 0.01


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"strength": (3, 1)}, r"strength \(3, 1\) is not 0 <= low <= high; use for example"),
        ({"strength": (-1, 1)}, r"strength \(-1, 1\) is not 0 <= low"),
        ({"grey": 2}, r"grey 2 is outside \[0, 1\]; use for example"),
    ],
)
def test_bad_ranges_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        PoissonNoise(**bad)
