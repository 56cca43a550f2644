"""A sensor's noise: its variance, and the trace of its colour filters."""

import numpy as np
import pytest

from pipelines.degradations.linear_light import to_linear
from pipelines.degradations.sensor_noise import BAYER, BILINEAR, PoissonGaussian, demosaiced


def noise_of(level, shot, channels=3, **options):
    """Return the noise of a flat field in linear light, of one level of it, and its variances."""
    encoded = level ** (1 / 2.2)
    gt = np.full((200, 200, channels), encoded, np.float32)
    sensor = PoissonGaussian(shot=(shot, shot), **options)
    return to_linear(sensor(gt, np.random.default_rng(0))) - level


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0.3, 0.6])
@pytest.mark.parametrize("shot", [1e-3, 5e-3])
def test_variance_is_that_of_photons_and_electronics(level, shot, channels):
    noise = noise_of(level, shot, channels, demosaic=0)
    read = np.exp(2.18 * np.log(shot) + 1.2)
    # log read strays by 0.26: twice that, and the estimate itself
    lowest, highest = (shot * level + read * np.exp(stray) for stray in (-0.6, 0.6))
    assert 0.97 * lowest < noise.var() < 1.03 * highest
    assert noise.mean() == pytest.approx(0, abs=1e-3)


def test_brighter_is_noisier_in_light():
    dark, bright = (noise_of(level, 2e-3).std() for level in (0.1, 0.5))
    assert bright > 1.5 * dark


def test_strengths_are_drawn_over_the_whole_range():
    gt = np.full((32, 32, 1), 0.7, np.float32)
    stds = [PoissonGaussian()(gt, np.random.default_rng(seed)).std() for seed in range(60)]
    assert max(stds) > 5 * min(stds)


def test_what_a_filter_measures_keeps_its_noise_and_the_rest_is_interpolated():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((6, 6, 1), dtype=np.float32) * np.ones(3, np.float32)
    result = demosaiced(noise, rng)
    measured = np.isclose(result, noise)
    # one colour for each pixel, two of four pixels green
    assert np.array_equal(measured.sum(axis=2), np.ones((6, 6)))
    assert measured.sum(axis=(0, 1)).tolist() == [9, 18, 9]


def test_flat_noise_stays_flat_to_the_border():
    result = demosaiced(np.ones((7, 5, 3), np.float32), np.random.default_rng(0))
    assert result == pytest.approx(np.ones((7, 5, 3)))
    assert BAYER.sum(axis=(0, 1)).tolist() == [1, 2, 1]
    assert [kernel.sum() for kernel in BILINEAR] == [4, 2, 4]


def test_demosaiced_noise_is_coarser():
    def neighbours(demosaic):
        noise = noise_of(0.5, 2e-3, demosaic=demosaic)
        return np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]

    assert abs(neighbours(0)) < 0.02
    assert neighbours(1) > 0.3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"shot": (0.1, 0.01)}, r"shot \(0.1, 0.01\) is not 0 < low <= high; use for example"),
        ({"shot": (0, 0.01)}, r"shot \(0, 0.01\) is not 0 < low"),
        ({"demosaic": -1}, r"demosaic -1 is outside \[0, 1\]; use for example"),
    ],
)
def test_bad_ranges_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        PoissonGaussian(**bad)
