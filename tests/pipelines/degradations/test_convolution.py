"""Convolution in strips against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.convolution import convolve

sizes = st.integers(0, 15).map(lambda reach: 2 * reach + 1)


def defined(values, kernel):
    """Return the sum over taps, slowly."""
    reach_y, reach_x = kernel.shape[0] // 2, kernel.shape[1] // 2
    height, width = values.shape[:2]
    rows = reflected(np.arange(-reach_y, height + reach_y), height)
    columns = reflected(np.arange(-reach_x, width + reach_x), width)
    padded = values[rows][:, columns].astype(np.float64)
    total = np.zeros(values.shape)
    for (y, x), tap in np.ndenumerate(kernel[::-1, ::-1]):
        total += tap * padded[y : y + height, x : x + width]
    return total


def reflected(index, length):
    period = max(1, 2 * length - 2)
    folded = index % period
    return np.minimum(folded, period - folded)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(*[st.integers(1, 40)] * 2, st.sampled_from([1, 3])),
    st.tuples(sizes, sizes),
    st.sampled_from([0.05, 1]),
)
def test_strips_give_what_the_definition_gives(seed, shape, size, density):
    rng = np.random.default_rng(seed)
    values = rng.random(shape, np.float32)
    kernel = rng.random(size, np.float32) * (rng.random(size) < density)
    kernel[size[0] // 2, 0] = 1
    kernel /= kernel.sum()
    before = values.copy()
    result = convolve(values, kernel)
    assert result.dtype == np.float32
    assert result == pytest.approx(defined(values, kernel), abs=1e-5)
    assert np.array_equal(values, before)


def test_a_single_tap_moves_the_picture_to_its_own_side():
    values = np.zeros((5, 5, 1), np.float32)
    values[2, 2] = 1
    kernel = np.zeros((3, 3), np.float32)
    kernel[1, 2] = 1
    assert np.argwhere(convolve(values, kernel)).tolist() == [[2, 3, 0]]
