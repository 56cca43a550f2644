import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import tiles


@settings(deadline=None)  # the first example also loads the codec
@given(
    height=st.integers(1, 9),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    channels=st.sampled_from((1, 3)),
    dtype=st.sampled_from((np.uint8, np.uint16)),
    seed=st.integers(0, 99),
)
def test_tiles_side_by_side_come_back(height, widths, channels, dtype, seed):
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max + 1
    parts = [rng.integers(0, top, (height, width, channels), dtype=dtype) for width in widths]
    before = [part.copy() for part in parts]
    planes = np.empty((height, channels, sum(widths)), dtype)
    tiles.decode([tiles.encode(part) for part in parts], widths, planes)
    pixels = np.empty((height, sum(widths), channels), dtype)
    tiles.interleave(planes.transpose(1, 0, 2).copy(), pixels)
    np.testing.assert_array_equal(pixels, np.hstack(before))
    for part, kept in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, kept)


@pytest.mark.parametrize("step", [-3, 3])
def test_small_differences_of_16_bits_have_one_high_byte(step):
    ramp = np.arange(100, dtype=np.uint16) * np.uint16(abs(step)) + np.uint16(30_000)
    pixels = np.repeat(ramp[:: 1 if step > 0 else -1, None, None], 100, axis=1)
    assert len(tiles.encode(pixels)) < 400
