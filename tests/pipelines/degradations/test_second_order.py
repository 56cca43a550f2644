"""The blind degradation of Real-ESRGAN."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations import GaussianNoise, Jpeg
from pipelines.degradations.blur_kernels import Blur
from pipelines.degradations.chain import Chain, OneOf, Sometimes
from pipelines.degradations.poisson_noise import PoissonNoise
from pipelines.degradations.resize import Resize, ResizeFromGt, ResizeToGt
from pipelines.degradations.second_order import second_order
from pipelines.degradations.sinc import Sinc

NAMES = (
    *(Blur, Chain, GaussianNoise, Jpeg, OneOf, PoissonNoise, Resize, ResizeFromGt, ResizeToGt),
    *(Sinc, Sometimes),
)


def photo(shape, dtype):
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4]),
    st.tuples(*[st.integers(1, 20)] * 2),
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.integers(0, 2**32),
)
def test_lq_is_exactly_scale_times_smaller_and_repeatable(scale, size, channels, dtype, seed):
    gt = photo((size[0] * scale, size[1] * scale, channels), dtype)
    before = gt.copy()
    lq = second_order(scale)(gt, np.random.default_rng(seed))
    assert lq.shape == (*size, channels)
    assert lq.dtype == gt.dtype
    assert lq.tobytes() == second_order(scale)(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_it_says_by_how_much_lq_is_smaller(scale):
    assert second_order(scale).scale == scale
    assert second_order(scale).margin_px == 0


def test_sides_that_scale_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"130 x 128 px .* multiples of scale 4; use .* 132 x 128"):
        second_order(4)(np.zeros((130, 128, 3), np.uint8), np.random.default_rng(0))


def test_it_comes_back_from_its_repr_and_from_a_pickle():
    chain = second_order(4)
    assert eval(repr(chain), {kind.__name__: kind for kind in NAMES}) == chain
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert second_order(4) == chain != second_order(2)


def test_brightness_is_kept_on_the_whole_and_every_sample_differs():
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    gt = np.stack([64 + 2 * x, 64 + 2 * y, 32 + x + y], axis=2).astype(np.uint8)
    samples = [second_order(2)(gt, np.random.default_rng(seed)) for seed in range(60)]
    assert np.mean(samples) == pytest.approx(gt.mean(), abs=2)
    assert len({sample.tobytes() for sample in samples}) == 60


def test_lq_stays_where_gt_is():
    # The mean over many samples is gt, blurred: its best match lies at no shift.
    gt = np.zeros((64, 64, 1), np.uint8)
    gt[24:40, 24:40] = 200
    mean = np.mean([second_order(1)(gt, np.random.default_rng(seed)) for seed in range(60)], axis=0)
    mean = np.clip(mean[..., 0] - mean[:8].mean(), 0, None)
    along = np.arange(64) - 31.5
    assert (mean.sum(axis=0) * along).sum() / mean.sum() == pytest.approx(0, abs=0.3)
    assert (mean.sum(axis=1) * along).sum() / mean.sum() == pytest.approx(0, abs=0.3)
