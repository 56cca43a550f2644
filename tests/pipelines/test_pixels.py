"""Levels to floats and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.pixels import like, to_float

levels = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 9)] * 2, st.sampled_from([1, 3, 6])),
)


@given(levels)
def test_levels_survive_the_way_to_floats_and_back(gt):
    values = to_float(gt)
    assert values.dtype == np.float32
    assert 0 <= values.min() <= values.max() <= 1
    assert np.array_equal(like(values, gt), gt)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_leaves_the_range_is_clipped_and_the_rest_rounded(dtype):
    peak = np.iinfo(dtype).max
    values = np.array([-0.5, 0.6 / peak, 1.4 / peak, 2.0], np.float32).reshape(1, 4, 1)
    assert like(values, np.empty(0, dtype)).ravel().tolist() == [0, 1, 1, peak]


def test_floats_are_copied_in_and_left_alone_on_the_way_out():
    values = np.array([[[-0.25], [1.5]]], np.float32)
    copy = to_float(values)
    assert copy is not values
    assert like(copy, values) is copy


def test_halves_are_those_of_numpy():
    values = np.random.default_rng(0).normal(0, 1, (9, 7, 3)).astype(np.float32)
    values.flat[:4] = [1e-7, -3e-8, 0, 70000]
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    assert np.array_equal(like(values, np.empty(0, np.float16)), wanted)
