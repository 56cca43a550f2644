"""What holds of every degradation that keeps the size; `pipelines.pixels` states it."""

import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.degradations import (
    Blur,
    Defocus,
    DualPixelDefocus,
    GaussianNoise,
    Haze,
    Jpeg,
    LowLight,
    MotionBlur,
    PoissonGaussian,
    PoissonNoise,
    Rain,
    Raindrops,
    Sinc,
    Snow,
    SpeckleNoise,
)
from tests.pictures import photos, seeds

DEGRADATIONS = (
    Blur(),
    Defocus(),
    DualPixelDefocus(),
    GaussianNoise(sigma=(0, 50), grey=0.4, clip=True),
    Haze(),
    Jpeg(quality=(10, 95)),
    LowLight(),
    MotionBlur(),
    PoissonGaussian(),
    PoissonNoise(),
    Rain(),
    Raindrops(),
    Raindrops(coverage=(1, 1), radius_px=(1, 9)),
    Sinc(),
    Snow(),
    SpeckleNoise(),
)
CLIPPED = (GaussianNoise, LowLight, PoissonGaussian, PoissonNoise, SpeckleNoise)
"""A sensor's noise, which its files clip; between the steps of a chain too."""


@pytest.mark.parametrize("degrade", DEGRADATIONS, ids=repr)
@settings(max_examples=50, deadline=None)
@given(gt=photos, seed=seeds)
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(degrade, gt, seed):
    before = gt.copy()
    lq = degrade(gt, np.random.default_rng(seed))
    num_views = 2 if isinstance(degrade, DualPixelDefocus) else 1
    assert lq.dtype == gt.dtype
    assert lq.shape == (*gt.shape[:2], num_views * gt.shape[2])
    assert lq.tobytes() == degrade(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)
    assert np.isfinite(lq).all()
    if isinstance(degrade, CLIPPED):
        assert lq.min() >= 0
        assert gt.dtype != np.float32 or lq.max() <= 1
