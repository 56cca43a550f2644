"""Resizing: at random, and back to a fixed part of gt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.chain import Chain
from pipelines.degradations.resize import Resize, ResizeFromGt, ResizeToGt

photos = st.builds(
    lambda seed, dtype, shape: (
        np.random.default_rng(seed).random(shape, dtype=np.float32)
        if dtype == np.float32
        else np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, True)
    ),
    st.integers(0, 100),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)
seeds = st.integers(0, 2**32)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([Resize(), ResizeFromGt(), ResizeToGt(1)]), photos, seeds)
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(step, gt, seed):
    before = gt.copy()
    lq = step(gt, np.random.default_rng(seed))
    assert lq.dtype == gt.dtype
    assert lq.shape[2] == gt.shape[2]
    assert min(lq.shape) >= 1
    assert lq.tobytes() == step(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)


@settings(deadline=None)
@given(photos, seeds)
def test_sizes_stay_within_the_range(gt, seed):
    lq = Resize(factor=(0.15, 1.5))(gt, np.random.default_rng(seed))
    for before, after in zip(gt.shape[:2], lq.shape[:2], strict=True):
        assert max(1, int(0.15 * before)) <= after <= max(1, int(1.5 * before))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Resize(factor=(0.15, 1.5), odds=(0.2, 0.7, 0.1)), (0.2, 0.7, 0.1)),
        (ResizeFromGt(divisor=1, factor=(0.3, 1.2), odds=(0.3, 0.4, 0.3)), (0.3, 0.4, 0.3)),
    ],
)
def test_it_goes_up_down_or_keeps_as_often_as_said(step, expected):
    rng, gt = np.random.default_rng(0), np.zeros((1, 10_000, 1), np.float32)
    sides = np.array([step(gt, rng).shape[1] for _ in range(3000)])
    seen = ((sides > 10_000).mean(), (sides < 10_000).mean(), (sides == 10_000).mean())
    assert seen == pytest.approx(expected, abs=0.035)
    low, high = step.factor
    assert sides.min() == pytest.approx(low * 10_000, rel=0.05)
    assert sides.max() == pytest.approx(high * 10_000, rel=0.05)


@given(photos, seeds)
def test_keeping_the_size_is_the_identity(gt, seed):
    assert np.array_equal(Resize(odds=(0, 0, 1))(gt, np.random.default_rng(seed)), gt)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(1, 40), seeds)
def test_a_chain_returns_to_gt_over_scale_after_any_resize(scale, rows, columns, seed):
    gt = np.zeros((rows * scale, columns * scale, 3), np.uint8)
    keep = ResizeFromGt(divisor=scale, odds=(0, 0, 1))
    for last in (ResizeToGt(scale), keep):
        lq = Chain(Resize(), ResizeFromGt(divisor=scale), last)(gt, np.random.default_rng(seed))
        assert lq.shape == (rows, columns, 3)


def test_the_second_resize_is_relative_to_gt():
    gt = np.zeros((400, 800, 1), np.uint8)
    up = Chain(Resize(odds=(0, 1, 0)), ResizeFromGt(divisor=4, odds=(1, 0, 0)))
    for seed in range(20):
        height, width, _ = up(gt, np.random.default_rng(seed)).shape
        assert 100 <= height <= 120
        assert 200 <= width <= 240


def test_a_flat_photo_stays_flat_and_brightness_is_kept():
    rng = np.random.default_rng(0)
    gt = np.full((40, 30, 3), 77, np.uint8)
    x = np.linspace(0, 1, 64, dtype=np.float32)
    ramp = np.broadcast_to(x[:, None, None], (64, 64, 3))
    for _ in range(30):
        assert np.unique(Resize()(gt, rng)).tolist() == [77]
        assert Resize()(ramp, rng).mean() == pytest.approx(0.5, abs=0.01)


def test_a_photo_stays_where_it_is():
    # A resize that moved the photo would teach a network to move it back.
    x = np.linspace(0, 1, 64, dtype=np.float32)
    ramp = np.ascontiguousarray(np.broadcast_to(x[:, None], (64, 64)))[..., None]
    for seed in range(30):
        lq = Chain(Resize(), ResizeToGt(1))(ramp, np.random.default_rng(seed))
        assert (lq - ramp)[12:-12].mean() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("shape", [(130, 128, 3), (128, 126, 3), (1, 1, 3)])
def test_sides_that_scale_does_not_divide_are_refused_before_any_step(shape):
    def fails(gt, rng):
        raise AssertionError

    with pytest.raises(ValueError, match="are not multiples of scale 4; use for example"):
        Chain(fails, ResizeToGt(4))(np.zeros(shape, np.uint8), np.random.default_rng(0))


def test_only_the_last_resize_says_by_how_much_it_reduces():
    assert Chain(Resize(), ResizeFromGt(divisor=4), ResizeToGt(4)).scale == 4


@pytest.mark.parametrize("factor", [(0, 1.5), (0.5, 0.9), (1.1, 1.5)])
@pytest.mark.parametrize("kind", [Resize, ResizeFromGt])
def test_an_empty_range_is_refused(kind, factor):
    with pytest.raises(ValueError, match="is not 0 < low <= 1 <= high; use for example"):
        kind(factor=factor)


@pytest.mark.parametrize("odds", [(0.5, 0.4, 0.2), (1.2, -0.2, 0)])
@pytest.mark.parametrize("kind", [Resize, ResizeFromGt])
def test_odds_that_cannot_be_drawn_by_are_refused(kind, odds):
    with pytest.raises(ValueError, match="with a sum of 1; use for example"):
        kind(odds=odds)


def test_what_cannot_divide_is_refused():
    with pytest.raises(ValueError, match="scale 0 is below 1"):
        ResizeToGt(0)
    with pytest.raises(ValueError, match="divisor -2 is below 1"):
        ResizeFromGt(divisor=-2)
