"""Blur by kernels of the Gaussian's family."""

import math
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.degradations.blur_kernels import KINDS, Blur, quadratic_form

photos = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)
floats = st.builds(
    lambda seed, shape: np.random.default_rng(seed).random(shape, dtype=np.float32),
    st.integers(0, 100),
    st.tuples(*[st.integers(1, 33)] * 2, st.sampled_from([1, 3])),
)
seeds = st.integers(0, 2**32)


def only(profile, outline, **ranges):
    weights = tuple(float(kind == (profile, outline)) for kind in KINDS)
    return Blur(weights=weights, **ranges)


@settings(max_examples=50, deadline=None)
@given(photos | floats, seeds)
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(gt, seed):
    before = gt.copy()
    lq = Blur()(gt, np.random.default_rng(seed))
    assert lq.dtype == gt.dtype
    assert lq.shape == gt.shape
    assert lq.tobytes() == Blur()(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)


@given(st.sampled_from(KINDS), seeds)
def test_a_kernel_sums_to_one_and_is_symmetric(kind, seed):
    kernel = only(*kind).kernel(np.random.default_rng(seed))
    assert kernel.dtype == np.float32
    assert kernel.min() >= 0
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    # float32 rounds what float64 turned
    assert np.abs(kernel - kernel[::-1, ::-1]).max() < 1e-7
    if "isotropic" in kind:
        for same in (kernel[::-1], kernel[:, ::-1], kernel.T):
            assert np.abs(kernel - same).max() < 1e-7
    assert kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] == kernel.max()


def test_every_odd_side_is_drawn():
    rng = np.random.default_rng(0)
    drawn = Counter(Blur().kernel(rng).shape for _ in range(800))
    assert sorted(drawn) == [(side, side) for side in range(7, 22, 2)]
    assert min(drawn.values()) > 60


def test_a_gaussian_has_its_standard_deviation():
    blur = only("gaussian", "isotropic", side_px=(21, 21), sigma=(2, 2))
    kernel = blur.kernel(np.random.default_rng(0)).astype(np.float64)
    x = np.arange(21) - 10
    assert math.sqrt((kernel.sum(axis=0) * x**2).sum()) == pytest.approx(2, rel=1e-3)
    profile = np.exp(-(x**2) / 8)
    assert kernel == pytest.approx(np.outer(profile, profile) / profile.sum() ** 2, abs=1e-7)


def test_the_first_sigma_lies_along_the_angle():
    kernel = np.exp(-quadratic_form(21, (3, 1), math.pi / 6) / 2)
    kernel /= kernel.sum()
    y, x = np.mgrid[-10:11, -10:11]
    covariance = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=kernel.ravel(), ddof=0)
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    assert covariance == pytest.approx(turn @ np.diag([9, 1]) @ turn.T, abs=0.1)


def test_beta_makes_a_peak_or_a_plateau():
    ranges = {"side_px": (21, 21), "sigma": (3, 3)}

    def relative(kernel):
        return kernel[10, 13] / kernel[10, 10]  # at one sigma

    def beyond(kernel):
        return kernel[10, 16] / kernel[10, 10]  # at two

    gaussian = only("gaussian", "isotropic", **ranges).kernel(np.random.default_rng(0))
    assert relative(gaussian) == pytest.approx(math.exp(-0.5))
    for seed in range(20):
        generalised = only("generalised", "isotropic", generalised_beta=(0.5, 4), **ranges)
        kernel = generalised.kernel(np.random.default_rng(seed))
        assert relative(kernel) == pytest.approx(math.exp(-0.5))  # whatever beta
        assert math.exp(-(4**4) / 2) * 0.99 <= beyond(kernel) <= math.exp(-1) * 1.01
        plateau = only("plateau", "isotropic", plateau_beta=(1, 2), **ranges)
        kernel = plateau.kernel(np.random.default_rng(seed))
        assert relative(kernel) == pytest.approx(0.5)
        assert 1 / 17 * 0.99 <= beyond(kernel) <= 1 / 5 * 1.01


def test_blur_keeps_the_mean_and_lowers_contrast():
    gt = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    lq = Blur(sigma=(1, 3))(gt, np.random.default_rng(0))
    assert lq.mean() == pytest.approx(gt.mean(), abs=1)
    assert lq.std() < gt.std() / 2


@given(st.integers(0, 65535), seeds)
def test_a_flat_photo_stays(level, seed):
    gt = np.full((9, 30, 3), level, np.uint16)
    lq = Blur()(gt, np.random.default_rng(seed)).astype(int)
    assert np.abs(lq - level).max() <= 1


def test_channels_do_not_mix():
    gt = np.zeros((24, 24, 3), np.uint8)
    gt[..., 1] = np.random.default_rng(0).integers(0, 256, (24, 24))
    for seed in range(20):
        lq = Blur()(gt, np.random.default_rng(seed))
        assert not lq[..., [0, 2]].any()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"side_px": (7, 20)}, "both odd; use for example"),
        ({"sigma": (0, 3)}, r"sigma \(0, 3\) is not 0 < low <= high; use for example"),
        ({"sigma": (3, 1)}, r"sigma \(3, 1\)"),
        ({"generalised_beta": (2, 4)}, r"generalised_beta \(2, 4\) is not 0 < low <= 1 <= high"),
        ({"plateau_beta": (0, 2)}, r"plateau_beta \(0, 2\)"),
        ({"weights": (1, 0, 0)}, r"weights \(1, 0, 0\) are not 6"),
        ({"weights": (1, 1, 0, 0, 0, 0)}, "with a sum of 1; use for example"),
        ({"weights": (2, -1, 0, 0, 0, 0)}, "of at least 0"),
        ({"weights": ()}, r"weights \(\) are not 6"),
    ],
)
def test_bad_ranges_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Blur(**bad)


def test_values_come_back_from_their_repr_and_from_a_pickle():
    blur = Blur(sigma=(0.2, 1.5))
    assert eval(repr(blur), {"Blur": Blur}) == blur
    assert pickle.loads(pickle.dumps(blur)) == blur
