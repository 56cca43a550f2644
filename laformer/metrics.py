"""PSNR and its kin as the field reports them, in numpy, float64 throughout.

One unit everywhere: 8-bit levels, [0, 255], as uint8 or as float; only `quantise` takes [0, 1].
Arrays are (H, W, C) or (H, W), channels in RGB order. Which of these functions a benchmark uses,
and in which order (quantise, shave, luma, metric), is its protocol's to say. SSIM has several
flavours and a file of its own, and so has PSNR-B.
"""

from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Levels: TypeAlias = NDArray[np.uint8] | NDArray[np.floating]
"""Pixels in 8-bit levels, [0, 255]; floats may lie between levels and outside the range."""

ScalarT = TypeVar("ScalarT", bound=np.generic)

LUMA_OFFSET = 16
LUMA_WEIGHTS = np.array([65_481, 128_553, 24_966])
"""ITU-R BT.601 in thousandths of a level: Y of studio range, 16 for black and 235 for white."""


def luma(rgb: Levels) -> NDArray[np.float64]:
    """Return BT.601 studio-range Y (H, W) float64, 16 for black to 235 for white, not rounded.

    Args:
        rgb: (H, W, 3) in [0, 255], uint8 or float.

    Raises:
        ValueError: `rgb` is not (H, W, 3).

    Source: ITU-R BT.601; MATLAB `rgb2ycbcr` of a double image, in levels.

    >>> luma(np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)).round(3)
    array([[16.   , 81.481, 40.966]])
    """
    _check_rgb(rgb)
    y: NDArray[np.float64] = rgb.astype(np.float64) @ (LUMA_WEIGHTS / 255_000) + LUMA_OFFSET
    return y


def rounded_luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return BT.601 studio-range Y (H, W) uint8 in [16, 235], rounded half up, exactly.

    Args:
        rgb: (H, W, 3) uint8.

    Raises:
        TypeError: `rgb` is not uint8.
        ValueError: `rgb` is not (H, W, 3).

    Source: MATLAB `rgb2ycbcr` of a uint8 image, on which deraining reports PSNR and SSIM, and on
    which the bicubic baselines of super-resolution were computed.

    >>> rounded_luma(np.array([[[0, 0, 0], [255, 0, 0], [255, 255, 255]]], np.uint8))
    array([[ 16,  81, 235]], dtype=uint8)
    """
    _check_rgb(rgb)
    if rgb.dtype != np.uint8:
        raise TypeError(f"rgb {rgb.dtype} is not uint8; quantise it first, or use luma")
    y: NDArray[np.int64] = rgb.astype(np.int64) @ LUMA_WEIGHTS + LUMA_OFFSET * 255_000
    return ((y + 127_500) // 255_000).astype(np.uint8)


def psnr(restored: Levels, gt: Levels, *, peak: float = 255.0) -> float:
    """Return 10 log10(peak^2 / MSE) in dB, the MSE over all pixels and channels; inf if equal.

    Args:
        restored: any shape, in [0, peak], uint8 or float.
        gt: as `restored`.
        peak: the largest value of the unit; 255 for 8-bit levels.

    Raises:
        ValueError: the shapes differ.

    Source: MATLAB `psnr`.

    >>> round(psnr(np.full((2, 2), 1, np.uint8), np.full((2, 2), 2, np.uint8)), 7)
    48.1308036
    """
    check_same_shape(restored, gt)
    mse = np.mean(np.square(restored.astype(np.float64) - gt.astype(np.float64)))
    return float(10 * np.log10(peak**2 / mse)) if mse else float("inf")


def mae(restored: Levels, gt: Levels, *, peak: float = 255.0) -> float:
    """Return the mean absolute difference over all pixels and channels, as a part of the peak.

    Args:
        restored: any shape, in [0, peak], uint8 or float.
        gt: as `restored`.
        peak: the largest value of the unit; 255 for 8-bit levels.

    Raises:
        ValueError: the shapes differ.

    Source: the benchmark of dual-pixel defocus, DPDD, on images in [0, 1].

    >>> mae(np.full((2, 2), 51, np.uint8), np.full((2, 2), 0, np.uint8))
    0.2
    """
    check_same_shape(restored, gt)
    return float(np.mean(np.abs(restored.astype(np.float64) - gt.astype(np.float64)))) / peak


def quantise(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return x in 8-bit levels: clipped to [0, 1], times 255, rounded half to even; uint8.

    Args:
        x: any shape, float; 1 is white. The product is taken in the dtype of x.

    Raises:
        ValueError: x holds NaN or infinity.

    Source: `tensor2img` of BasicSR.

    >>> quantise(np.array([-0.1, 0.5 / 255, 1.5 / 255, 0.5, 1.2]))
    array([  0,   0,   2, 128, 255], dtype=uint8)
    """
    num_bad = x.size - np.count_nonzero(np.isfinite(x))
    if num_bad:
        raise ValueError(f"{num_bad} of {x.size} values are NaN or infinite; check the model")
    levels: NDArray[np.floating] = np.round(np.clip(x, 0, 1) * 255)
    return levels.astype(np.uint8)


def shave(x: NDArray[ScalarT], border_px: int) -> NDArray[ScalarT]:
    """Return a view of x (H, W, C) or (H, W) without `border_px` pixels on each side.

    Raises:
        ValueError: the border is negative or leaves nothing.

    Source: super-resolution ignores a border as wide as its scale, which a model cannot know.

    >>> shave(np.zeros((10, 8, 3)), 2).shape
    (6, 4, 3)
    """
    height, width = x.shape[:2]
    if not 0 <= 2 * border_px < min(height, width):
        raise ValueError(
            f"border {border_px} is negative or leaves nothing of {height}x{width}; "
            f"use 0 to {(min(height, width) - 1) // 2}"
        )
    return x[border_px : height - border_px, border_px : width - border_px]


def _check_rgb(rgb: Levels) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb {rgb.shape} is not (H, W, 3); grey images need no luma")


def check_same_shape(restored: Levels, gt: Levels) -> None:
    """Raise ValueError, naming both, for images of different shapes."""
    if restored.shape != gt.shape:
        raise ValueError(
            f"restored {restored.shape} and gt {gt.shape} differ in shape; crop restored to gt"
        )
