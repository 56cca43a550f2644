import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.degradations import GaussianNoise

photos = st.builds(
    lambda seed, bits: np.random.default_rng(seed).integers(
        0, 2**bits, (16, 12, 3), dtype=np.uint8 if bits == 8 else np.uint16
    ),
    st.integers(0, 1000),
    st.sampled_from([8, 16]),
)


@given(gt=photos)
def test_no_noise_is_the_identity(gt):
    lq = GaussianNoise(sigma=(0, 0))(gt, np.random.default_rng(0))
    # half a step of float16 below 1, and what float32 rounds on the way
    assert np.abs(lq - gt / np.iinfo(gt.dtype).max).max() <= 2**-12 + 2**-23


@given(gt=photos, seed=st.integers(0, 100))
def test_the_same_generator_gives_the_same_bytes_and_the_input_stays(gt, seed):
    before = gt.copy()
    first = GaussianNoise(sigma=(0, 50))(gt, np.random.default_rng(seed))
    again = GaussianNoise(sigma=(0, 50))(gt, np.random.default_rng(seed))
    assert first.tobytes() == again.tobytes()
    assert np.array_equal(gt, before)
    assert first.dtype == np.float16


@pytest.mark.parametrize("sigma", [5, 25, 50])
def test_sigma_is_the_standard_deviation_in_8_bit_levels(sigma):
    gt = np.full((256, 256, 3), 128, np.uint8)
    lq = GaussianNoise(sigma=(sigma, sigma))(gt, np.random.default_rng(0)).astype(np.float64) * 255
    assert lq.std() == pytest.approx(sigma, rel=0.01)
    assert lq.mean() == pytest.approx(128, abs=0.3)


def test_noise_is_not_clipped():
    lq = GaussianNoise(sigma=(50, 50))(np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0))
    assert lq.min() < -0.1


def test_blind_noise_draws_its_strength_from_the_range():
    gt = np.zeros((64, 64, 3), np.uint8)
    levels = [
        GaussianNoise(sigma=(10, 40))(gt, np.random.default_rng(seed)).std() * 255
        for seed in range(50)
    ]
    assert 9 < min(levels) < 15
    assert 35 < max(levels) < 42


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match=r"sigma \(30, 10\)"):
        GaussianNoise(sigma=(30, 10))
