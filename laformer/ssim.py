"""Structural similarity in the flavours that the field reports, in numpy, float64 throughout.

All are the formula of Wang et al., "Image Quality Assessment: From Error Visibility to Structural
Similarity", TIP 2004, and differ in the window and in what becomes of the border. On one image they
differ by hundredths, so that a score names its flavour. Pixels are in 8-bit levels, [0, 255], as
uint8 or float, (H, W, C) or (H, W).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from laformer.metrics import Levels, check_same_shape

Floats: TypeAlias = NDArray[np.float64]

RADIUS_PX = 5
SIGMA_PX = 1.5
K1, K2 = 0.01, 0.03
POOLED_SIDE_PX = 256
"""What the shorter side is averaged down to, about, before the pooled flavour."""


def gaussian(
    restored: Levels, gt: Levels, *, peak: float = 255.0, mask: NDArray[np.bool_] | None = None
) -> float:
    """Return the mean structural similarity in [-1, 1], per channel and then averaged.

    The window is an 11x11 Gaussian of sigma 1.5; only pixels whose window lies inside the image
    count, so a border of 5 pixels does not.

    Args:
        restored: (H, W, C) or (H, W), H and W at least 11, in [0, peak], uint8 or float.
        gt: as `restored`.
        peak: the largest value of the unit; 255 for 8-bit levels.
        mask: (H, W), the pixels that count; all when not given.

    Raises:
        ValueError: the shapes differ, the image is smaller than the window, or no pixel counts.

    Source: the authors' `ssim_index.m`, and `calculate_ssim` of BasicSR.

    >>> gt = np.tile(np.arange(16, dtype=np.uint8), (16, 1))
    >>> gaussian(gt, gt)
    1.0
    """
    weights = _gaussian_weights()
    _check(restored, gt, weights.size)
    similar = _similar(restored, gt, peak, lambda x: _mean(x, weights))
    # All channels have equally many pixels: one mean is the average of theirs.
    if mask is None:
        return float(np.mean(similar))
    inside = mask[RADIUS_PX:-RADIUS_PX, RADIUS_PX:-RADIUS_PX]
    if not inside.any():
        raise ValueError("the mask leaves no pixel to compare; the images do not overlap")
    return float(np.mean(similar[inside]))


def volume(restored: Levels, gt: Levels, *, peak: float = 255.0) -> float:
    """Return the mean structural similarity of an image taken for a volume, H x W x C.

    The window is an 11x11x11 Gaussian of sigma 1.5, and the border is repeated on all six sides, so
    that every pixel counts and the channels are mixed.

    Args:
        restored: (H, W, C), in [0, peak], uint8 or float.
        gt: as `restored`.
        peak: the largest value of the unit; 255 for 8-bit levels.

    Raises:
        ValueError: the shapes differ, or there is no third axis.

    Source: MATLAB `ssim` of an H x W x 3 array, by which GoPro, HIDE and SIDD are scored.

    >>> gt = np.tile(np.arange(4, dtype=np.uint8), (4, 3, 1))
    >>> volume(gt, gt)
    1.0
    """
    check_same_shape(restored, gt)
    if restored.ndim != 3:
        raise ValueError(f"image {restored.shape} is not (H, W, C); use the flavour gaussian")
    weights = _gaussian_weights()
    across = _across_channels(weights, restored.shape[2])

    def mean(x: Floats) -> Floats:
        edges = ((RADIUS_PX, RADIUS_PX), (RADIUS_PX, RADIUS_PX), (0, 0))
        return _mean(np.pad(x, edges, mode="edge"), weights) @ across

    return float(np.mean(_similar(restored, gt, peak, mean)))


def uniform(restored: Levels, gt: Levels, *, window_px: int = 7, peak: float = 255.0) -> float:
    """Return the mean structural similarity under a square window of equal weights.

    Variances are those of a sample, over n - 1; only windows inside the image count.

    Args:
        restored: (H, W, C) or (H, W), H and W at least the window, in [0, peak], uint8 or float.
        gt: as `restored`.
        window_px: side of the window.
        peak: the largest value of the unit; 255 for 8-bit levels.

    Raises:
        ValueError: the shapes differ, or the image is smaller than the window.

    Source: `structural_similarity` of scikit-image with its defaults, by which DPDD is scored.

    >>> gt = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
    >>> uniform(gt, gt)
    1.0
    """
    _check(restored, gt, window_px)
    weights = np.full(window_px, 1 / window_px)
    sample = window_px**2 / (window_px**2 - 1)
    return float(np.mean(_similar(restored, gt, peak, lambda x: _mean(x, weights), sample)))


def pooled(restored: Levels, gt: Levels, *, peak: float = 255.0) -> float:
    """Return `gaussian` of both images averaged down by round(min(H, W) / 256), at least 1.

    It reads higher than at full size, for fine errors are averaged away.

    Args:
        restored: (H, W, C) or (H, W), H and W at least 11, in [0, peak], uint8 or float.
        gt: as `restored`.
        peak: the largest value of the unit; 255 for 8-bit levels.

    Raises:
        ValueError: the shapes differ, or the image is smaller than the window.

    Source: the evaluation of dehazing since DehazeFormer, taken over by desnowing; the windows are
    those of torch's `adaptive_avg_pool2d`.

    >>> gt = np.tile(np.arange(16, dtype=np.uint8), (16, 1))
    >>> pooled(gt, gt)
    1.0
    """
    check_same_shape(restored, gt)
    small = [_averaged_down(x.astype(np.float64)) for x in (restored, gt)]
    return gaussian(small[0], small[1], peak=peak)


def _similar(
    restored: Levels,
    gt: Levels,
    peak: float,
    mean: Callable[[Floats], Floats],
    sample: float = 1.0,
) -> Floats:
    """Return the map of the index; `sample` turns variances of all into those of a sample."""
    x, y = restored.astype(np.float64), gt.astype(np.float64)
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_x, mean_y = mean(x), mean(y)
    var_x = sample * (mean(x * x) - mean_x * mean_x)
    var_y = sample * (mean(y * y) - mean_y * mean_y)
    cov = sample * (mean(x * y) - mean_x * mean_y)
    similar = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    found: Floats = similar / ((mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2))
    return found


def _gaussian_weights() -> Floats:
    weights: Floats = np.exp(-0.5 * np.square(np.arange(-RADIUS_PX, RADIUS_PX + 1) / SIGMA_PX))
    weights /= weights.sum()
    return weights


def _mean(x: Floats, weights: Floats) -> Floats:
    """Average x (H, W, ...) under a separable window, no padding: it shrinks by the window."""
    for axis in (0, 1):
        x = sliding_window_view(x, weights.size, axis=axis) @ weights
    return x


def _across_channels(weights: Floats, channels: int) -> Floats:
    """Return (C, C): column j is the window around channel j, where the ends are repeated."""
    across = np.zeros((channels, channels))
    for j in range(channels):
        for offset, weight in enumerate(weights, start=-RADIUS_PX):
            across[min(max(j + offset, 0), channels - 1), j] += weight
    return across


def _averaged_down(x: Floats) -> Floats:
    """Average x (H, W, ...) over adaptive windows: as many as whole factors fit into a side."""
    factor = max(1, round(min(x.shape[:2]) / POOLED_SIDE_PX))
    for axis in (0, 1):
        length = x.shape[axis]
        num = length // factor
        starts = np.arange(num) * length // num
        ends = -(-(np.arange(num) + 1) * length // num)
        sums = np.cumsum(x, axis=axis)
        before = np.concatenate([np.zeros_like(sums.take([0], axis=axis)), sums], axis=axis)
        widths = (ends - starts).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        x = (before.take(ends, axis=axis) - before.take(starts, axis=axis)) / widths
    return x


def _check(restored: Levels, gt: Levels, window_px: int) -> None:
    check_same_shape(restored, gt)
    if restored.ndim not in (2, 3) or min(restored.shape[:2]) < window_px:
        raise ValueError(
            f"image {restored.shape} is not (H, W, C) or (H, W) with H and W of at least "
            f"{window_px}, the window of SSIM; use larger images or a smaller border"
        )
