"""Smooth fields: their range, and that they are smooth and random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.fields import scene_depth, smooth_field

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@settings(max_examples=50, deadline=None)
@given(sizes, st.integers(0, 2**32), st.sampled_from([smooth_field, scene_depth]))
def test_a_field_lies_in_zero_to_one_and_follows_the_generator(size, seed, made):
    field = made(size, np.random.default_rng(seed))
    assert field.shape == size
    assert field.dtype == np.float32
    assert field.min() >= 0
    assert field.max() <= 1
    assert np.array_equal(field, made(size, np.random.default_rng(seed)))


@pytest.mark.parametrize("size", [(64, 64), (64, 257), (384, 100)])
def test_a_field_spans_the_range_and_has_no_steps(size):
    field = smooth_field(size, np.random.default_rng(0))
    assert field.min() == 0
    assert field.max() == pytest.approx(1)
    steps = max(np.abs(np.diff(field, axis=axis)).max() * size[axis] for axis in (0, 1))
    assert steps < 10  # of the range per side of the image


def test_fields_differ_and_no_side_of_theirs_is_favoured():
    rng = np.random.default_rng(0)
    mean = np.mean([smooth_field((32, 32), rng) for _ in range(400)], axis=0)
    assert mean.mean() == pytest.approx(0.5, abs=0.03)
    assert mean.std() < 0.03


def test_depth_grows_towards_the_top_but_for_a_few_scenes():
    depths = [scene_depth((48, 64), np.random.default_rng(seed)) for seed in range(200)]
    farther = [depth[:8].mean() > depth[-8:].mean() for depth in depths]
    assert np.mean(farther) > 0.9
    spans = [float(np.ptp(depth)) for depth in depths]
    assert 0.3 <= min(spans) < 0.35
    assert 0.95 < max(spans) <= 1
