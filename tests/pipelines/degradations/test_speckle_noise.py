"""Multiplicative noise."""

import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.degradations.speckle_noise import SpeckleNoise
from tests.pictures import photos, seeds


@settings(max_examples=50, deadline=None)
@given(photos, seeds)
def test_sigma_zero_is_the_identity(gt, seed):
    lq = SpeckleNoise(sigma=(0, 0))(gt, np.random.default_rng(seed))
    assert np.array_equal(lq, gt)


@pytest.mark.parametrize("level", [0, 40, 120])
def test_the_deviation_is_in_proportion_to_the_level(level):
    gt = np.full((128, 128, 3), level * 257, np.uint16)
    lq = SpeckleNoise(sigma=(20, 20))(gt, np.random.default_rng(0)).astype(np.float64) / 257
    assert lq.std() == pytest.approx(20 / 255 * level, rel=0.02)
    assert lq.mean() == pytest.approx(level, abs=0.3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sigma": (3, 1)}, r"sigma \(3, 1\) is not 0 <= low <= high; use for example"),
        ({"sigma": (-1, 1)}, r"sigma \(-1, 1\) is not 0 <= low"),
    ],
)
def test_bad_ranges_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        SpeckleNoise(**bad)
