"""Small kernels, and what a photo is under them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.kernels import blurred

floats = st.builds(
    lambda seed, shape: np.random.default_rng(seed).random(shape, dtype=np.float32),
    st.integers(0, 100),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)
odd = st.integers(0, 10).map(lambda half: 2 * half + 1)


@settings(max_examples=50, deadline=None)
@given(floats, odd, st.integers(0, 100))
def test_a_convolution_is_the_weighted_sum_of_reflected_neighbours(gt, side_px, seed):
    kernel = np.random.default_rng(seed).random((side_px, side_px), dtype=np.float32)
    kernel /= kernel.sum()
    half, (height, width) = side_px // 2, gt.shape[:2]
    # numpy cannot reflect one pixel, which has no neighbour to be its image
    modes = ["reflect" if side > 1 else "edge" for side in (height, width)]
    padded = np.pad(gt.astype(np.float64), ((half, half), (0, 0), (0, 0)), mode=modes[0])
    padded = np.pad(padded, ((0, 0), (half, half), (0, 0)), mode=modes[1])
    expected = sum(
        kernel[i, j] * padded[i : i + height, j : j + width]
        for i in range(side_px)
        for j in range(side_px)
    )
    assert np.abs(blurred(gt, kernel) - expected).max() < 1e-5


@given(floats, st.integers(1, 10))
def test_a_kernel_of_one_pixel_is_the_identity(gt, half):
    kernel = np.zeros((2 * half + 1,) * 2, np.float32)
    kernel[half, half] = 1
    assert np.array_equal(blurred(gt, kernel), gt)


@settings(deadline=None)
@given(floats, odd, st.integers(0, 100))
def test_a_product_of_two_profiles_gives_the_same_the_short_way(gt, side_px, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.random((side_px, 1)), rng.random((1, side_px))
    kernel = (rows / rows.sum() * columns / columns.sum()).astype(np.float32)
    bent = kernel.copy()
    bent[0, 0] += 1e-5  # no product any more
    assert np.abs(blurred(gt, kernel) - blurred(gt, bent)).max() < 1e-4
