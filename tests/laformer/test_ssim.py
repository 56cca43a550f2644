"""The flavours of SSIM against scikit-image and against their definitions in torch."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity
from torch.nn.functional import adaptive_avg_pool2d, conv3d, pad

from laformer import ssim

FLAVOURS = (ssim.gaussian, ssim.volume, ssim.uniform, ssim.pooled)
images = arrays(np.uint8, st.tuples(*[st.integers(11, 16)] * 2, st.sampled_from([1, 3])))
quick = settings(max_examples=15, deadline=None)


def noisy(seed, shape=(40, 36, 3)):
    """A smooth image in levels, uint8, and the same with noise."""
    rng = np.random.default_rng(seed)
    gt = np.add.outer(np.linspace(50, 200, shape[0]), np.linspace(-30, 30, shape[1]))
    gt = gt[..., None] + rng.normal(0, 4, (1, 1, shape[2]))
    restored = gt + rng.normal(0, 12, shape)
    return [x.round().clip(0, 255).astype(np.uint8) for x in (restored, gt)]


def by_definition(x, y, mean, peak=255):
    """The index of Wang et al. under any window."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


def volume_mean(x):
    """A 3-D Gaussian of 11x11x11 with repeated edges, in float64."""
    line = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    line /= line.sum()
    kernel = torch.einsum("i,j,k->ijk", line, line, line)[None, None]
    padded = pad(torch.from_numpy(x.astype(np.float64))[None, None], (5,) * 6, mode="replicate")
    return conv3d(padded, kernel)[0, 0]


def test_examples_of_the_docstrings():
    assert doctest.testmod(ssim).failed == 0


@quick
@given(images, st.data())
def test_volume_is_a_gaussian_in_three_dimensions_with_repeated_edges(x, data):
    y = data.draw(arrays(np.uint8, x.shape))
    x, y = x.astype(np.float64), y.astype(np.float64)
    assert ssim.volume(x, y) == pytest.approx(float(by_definition(x, y, volume_mean)), abs=1e-10)


@quick
@given(images, st.sampled_from([7, 11]), st.data())
def test_uniform_is_the_default_of_scikit_image(x, window_px, data):
    y = data.draw(arrays(np.uint8, x.shape))
    wanted = structural_similarity(x, y, data_range=255, channel_axis=2, win_size=window_px)
    assert ssim.uniform(x, y, window_px=window_px) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("shape", [(700, 521, 3), (401, 650, 1), (100, 90, 3)])
def test_pooled_averages_as_torch_does_and_is_gaussian_where_there_is_nothing_to_pool(shape):
    x, y = noisy(0, shape)
    factor = max(1, round(min(shape[:2]) / 256))
    small = [
        adaptive_avg_pool2d(
            torch.from_numpy(each.astype(np.float64)).permute(2, 0, 1)[None],
            (shape[0] // factor, shape[1] // factor),
        )[0]
        .permute(1, 2, 0)
        .numpy()
        for each in (x, y)
    ]
    assert ssim.pooled(x, y) == pytest.approx(ssim.gaussian(*small), abs=1e-10)
    if factor == 1:
        assert ssim.pooled(x, y) == pytest.approx(ssim.gaussian(x, y), abs=1e-12)
    else:
        assert ssim.pooled(x, y) > ssim.gaussian(x, y) + 0.05


def test_a_mask_of_all_pixels_changes_nothing_and_a_part_is_the_part():
    x, y = noisy(1)
    everything = np.ones(x.shape[:2], np.bool_)
    assert ssim.gaussian(x, y, mask=everything) == ssim.gaussian(x, y)
    left = everything.copy()
    left[:, 20:] = False
    # Windows of the columns up to 19 end at column 24.
    assert ssim.gaussian(x, y, mask=left) == pytest.approx(ssim.gaussian(x[:, :25], y[:, :25]))
    with pytest.raises(ValueError, match="leaves no pixel"):
        ssim.gaussian(x, y, mask=~everything)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_is_symmetric_one_for_equal_images_and_free_of_the_unit(flavour):
    x, y = noisy(2)
    assert flavour(x, x) == 1
    assert flavour(x, y) == pytest.approx(flavour(y, x), abs=1e-12)
    assert 0 < flavour(x, y) < 1
    assert flavour(x / 255, y / 255, peak=1) == pytest.approx(flavour(x, y), abs=1e-9)


def test_the_flavours_are_different_numbers():
    x, y = noisy(3, (600, 520, 3))
    found = sorted([*(flavour(x, y) for flavour in FLAVOURS), ssim.uniform(x, y, window_px=11)])
    assert min(np.diff(found)) > 1e-4


def test_errors_name_the_value_and_the_rule():
    for flavour in FLAVOURS:
        with pytest.raises(ValueError, match=r"\(16, 16, 3\) and gt \(16, 17, 3\)"):
            flavour(np.zeros((16, 16, 3)), np.zeros((16, 17, 3)))
    with pytest.raises(ValueError, match=r"\(10, 16, 3\) .* at least 11"):
        ssim.gaussian(np.zeros((10, 16, 3)), np.zeros((10, 16, 3)))
    with pytest.raises(ValueError, match=r"\(6, 16\) .* at least 7"):
        ssim.uniform(np.zeros((6, 16)), np.zeros((6, 16)))
    with pytest.raises(ValueError, match="use the flavour gaussian"):
        ssim.volume(np.zeros((16, 16)), np.zeros((16, 16)))
