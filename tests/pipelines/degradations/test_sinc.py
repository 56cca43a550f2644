"""The ideal low-pass filter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.degradations.kernels import blurred
from pipelines.degradations.sinc import Sinc, bessel_j1, low_pass

photos = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)
floats = st.builds(
    lambda seed, shape: np.random.default_rng(seed).random(shape, dtype=np.float32),
    st.integers(0, 100),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)
odd = st.integers(0, 10).map(lambda half: 2 * half + 1)


@settings(max_examples=50, deadline=None)
@given(photos | floats, st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(gt, seed):
    before = gt.copy()
    lq = Sinc()(gt, np.random.default_rng(seed))
    assert lq.dtype == gt.dtype
    assert lq.shape == gt.shape
    assert lq.tobytes() == Sinc()(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)


def test_j1_has_the_values_of_the_tables():
    # Abramowitz & Stegun, table 9.1; the last is the first zero (table 9.5).
    x = np.array([0, 0.1, 1, 2, 3, 5, 10, 3.8317059702])
    j1 = [0, 0.0499375260, 0.4400505857, 0.5767248078, 0.3390589585, -0.3275791376, 0.0434727462, 0]
    assert np.abs(bessel_j1(x) - j1).max() < 1e-7


def test_j1_is_its_integral():
    # Abramowitz & Stegun 9.1.21; the midpoint rule is exact to rounding for a periodic function.
    x, t = np.linspace(0, 60, 3001), (np.arange(128) + 0.5) * np.pi / 128
    integral = np.cos(t - x[:, None] * np.sin(t)).mean(axis=1)
    assert np.abs(bessel_j1(x) - integral).max() < 1e-7


@given(odd, st.floats(0.05, 1))
def test_a_kernel_sums_to_one_and_is_symmetric(side_px, cutoff):
    kernel = low_pass(side_px, cutoff)
    assert kernel.shape == (side_px, side_px)
    assert kernel.dtype == np.float32
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    for same in (kernel[::-1], kernel[:, ::-1], kernel.T):
        assert np.array_equal(kernel, same)


def test_high_frequencies_are_stopped_and_low_ones_pass():
    kernel = np.zeros((128, 128))
    kernel[:21, :21] = low_pass(21, 0.5)
    gain = np.abs(np.fft.fft2(kernel))[0, :65]  # along x, from 0 to the highest frequency
    assert gain[:16] == pytest.approx(1, abs=0.15)
    assert gain[48:] == pytest.approx(0, abs=0.15)
    assert gain[32] == pytest.approx(0.5, abs=0.1)


def test_an_edge_overshoots_and_flat_parts_stay():
    gt = np.full((9, 64, 1), 0.25, np.float32)
    gt[:, 32:] = 0.75
    lq = blurred(gt, low_pass(21, 1 / 3))
    assert 0.77 < lq.max() < 0.85
    assert 0.15 < lq.min() < 0.23
    assert lq[:, :20] == pytest.approx(0.25, abs=1e-5)
    assert lq[:, -20:] == pytest.approx(0.75, abs=1e-5)


@pytest.mark.parametrize("side_px", [(7, 20), (8, 21), (21, 7), (-1, 3)])
def test_sides_that_are_not_odd_are_refused(side_px):
    with pytest.raises(ValueError, match="both odd; use for example"):
        Sinc(side_px=side_px)


@pytest.mark.parametrize("cutoff", [(0, 1), (0.5, 0.3), (0.5, 1.1)])
def test_an_empty_range_is_refused(cutoff):
    with pytest.raises(ValueError, match="is not 0 < low <= high <= 1; use for example"):
        Sinc(cutoff=cutoff)
