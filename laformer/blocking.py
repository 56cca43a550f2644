"""PSNR that also counts the edges of JPEG's blocks."""

import numpy as np
from numpy.typing import NDArray

from laformer.metrics import Levels, check_same_shape

BLOCK_PX = 8
"""Side of JPEG's blocks."""


def psnr_b(restored: Levels, gt: Levels, *, peak: float = 255.0) -> float:
    """Return 10 log10(peak^2 / (MSE + BEF)) in dB, per channel and then averaged.

    BEF is how much more neighbours differ across the edges of 8x8 blocks of the restored image than
    elsewhere, in squared levels, times log2(8) / log2(min(H, W)); 0 where they do not. gt has no
    part in it: an image that equals gt, and happens to have such edges, is not infinite. Only the
    grid that begins in the upper left corner is looked at: cut nothing off before.

    Args:
        restored: (H, W, C) or (H, W), H and W more than 8, in [0, peak], uint8 or float.
        gt: as `restored`.
        peak: the largest value of the unit; 255 for 8-bit levels.

    Raises:
        ValueError: the shapes differ, or the image has no edge of blocks.

    Source: Yim and Bovik, "Quality Assessment of Deblocked Images", TIP 2011.

    >>> flat = np.full((16, 16), 100, np.uint8)
    >>> round(psnr_b(flat + np.uint8(1), flat), 4)
    48.1308
    """
    check_same_shape(restored, gt)
    if restored.ndim not in (2, 3) or min(restored.shape[:2]) <= BLOCK_PX:
        raise ValueError(
            f"image {restored.shape} is not (H, W, C) or (H, W) with H and W of more than "
            f"{BLOCK_PX}, the side of JPEG's blocks; use larger images"
        )
    x, y = (each.astype(np.float64).reshape(*each.shape[:2], -1) for each in (restored, gt))
    errors = [
        float(np.mean(np.square(x[..., c] - y[..., c]))) + _blocking_effect(x[..., c])
        for c in range(x.shape[2])
    ]
    if not all(errors):
        return float("inf")
    return float(np.mean(10 * np.log10(peak**2 / np.array(errors))))


def _blocking_effect(x: NDArray[np.float64]) -> float:
    """Return BEF of one channel (H, W), in squared levels."""
    across, within, num_across, num_within = 0.0, 0.0, 0, 0
    for steps in (np.square(np.diff(x, axis=0)), np.square(np.diff(x, axis=1)).T):
        is_edge = np.arange(1, len(steps) + 1) % BLOCK_PX == 0
        across += float(steps[is_edge].sum())
        within += float(steps[~is_edge].sum())
        num_across += steps[is_edge].size
        num_within += steps[~is_edge].size
    more = across / num_across - within / num_within
    return more * float(np.log2(BLOCK_PX) / np.log2(min(x.shape))) if more > 0 else 0.0
