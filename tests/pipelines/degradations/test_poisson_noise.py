"""Shot noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.degradations.poisson_noise import PoissonNoise

photos = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 9)] * 2, st.sampled_from([1, 3])),
)


@settings(deadline=None)
@given(photos, st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(gt, seed):
    before, step = gt.copy(), PoissonNoise(strength=(0.05, 3), grey=0.4)
    lq = step(gt, np.random.default_rng(seed))
    assert lq.dtype == gt.dtype
    assert lq.shape == gt.shape
    assert lq.tobytes() == step(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)


@given(photos)
def test_no_strength_is_the_identity(gt):
    assert np.array_equal(PoissonNoise(strength=(0, 0))(gt, np.random.default_rng(0)), gt)


def test_the_variance_is_the_light_over_the_photons():
    gt = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 2000, 1))
    lq = PoissonNoise(strength=(1, 1))(gt, np.random.default_rng(0)) / 255
    variance = lq[32:160].var(axis=1).mean()
    assert variance == pytest.approx((gt[32:160] / 255 / 256).mean(), rel=0.02)


def test_grey_noise_is_the_same_in_every_channel():
    gt = np.full((8, 8, 3), 128, np.uint8)
    lq = PoissonNoise(strength=(1, 1), grey=1)(gt, np.random.default_rng(0))
    assert np.array_equal(lq[..., 0], lq[..., 1])
    assert lq.std() > 0


@pytest.mark.parametrize("bad", [{"strength": (3, 1)}, {"strength": (0, 1), "grey": 2}])
def test_bad_ranges_are_refused(bad):
    with pytest.raises(ValueError, match="use for example"):
        PoissonNoise(**bad)
