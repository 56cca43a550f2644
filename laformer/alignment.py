"""Laying a restored image over a gt that was taken from a slightly different place."""

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from laformer.metrics import Levels, check_same_shape

Floats: TypeAlias = NDArray[np.float64]

ITERATIONS = 100
SMOOTHED_PX = 5
"""Side of the Gaussian that both images are smoothed with before they are compared."""


def aligned(restored: Levels, gt: Levels) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return restored, warped and made as bright as gt, gt, and the mask (H, W) where both are.

    A homography is found that maximises the enhanced correlation coefficient of the grey images,
    in 100 steps. The restored image is read between pixels by bicubic interpolation. Outside the
    mask both images are 0.

    Args:
        restored: (H, W, 3) in [0, 255], uint8 or float.
        gt: as `restored`.

    Raises:
        ValueError: the shapes differ, the images are not RGB, or no homography is found.

    Source: the evaluation of RealBlur, Rim et al., ECCV 2020; Evangelidis and Psarakis, TPAMI 2008.
    """
    check_same_shape(restored, gt)
    if restored.ndim != 3 or restored.shape[2] != 3:
        raise ValueError(f"image {restored.shape} is not (H, W, 3); alignment takes RGB")
    moving, still = restored.astype(np.float32) / 255, gt.astype(np.float32) / 255
    # Exposures differ too: what minimises the squared error is taken out first.
    energy = float(np.sum(np.square(moving), dtype=np.float64))
    if not energy:
        raise ValueError("the restored image is black: there is nothing to align")
    moving *= np.float32(float(np.sum(moving * still, dtype=np.float64)) / energy)
    found = _homography(moving, still)
    size = (gt.shape[1], gt.shape[0])
    warped = cv2.warpPerspective(
        moving,
        found,
        size,
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    covered = cv2.warpPerspective(
        np.ones(gt.shape[:2], np.float32),
        found,
        size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    mask = covered > 0
    both = [np.where(mask[..., None], x.astype(np.float64) * 255, 0.0) for x in (warped, still)]
    return both[0], both[1], mask


def masked_psnr(
    restored: Floats, gt: Floats, mask: NDArray[np.bool_], *, peak: float = 255.0
) -> float:
    """Return 10 log10(peak^2 / MSE) in dB over the pixels (H, W) of a mask; inf if equal.

    Raises:
        ValueError: the shapes differ, or no pixel counts.
    """
    check_same_shape(restored, gt)
    if not mask.any():
        raise ValueError("the mask leaves no pixel to compare; the images do not overlap")
    mse = float(np.mean(np.square(restored[mask] - gt[mask])))
    return float(10 * np.log10(peak**2 / mse)) if mse else float("inf")


def _homography(moving: NDArray[Any], still: NDArray[Any]) -> NDArray[np.float32]:
    """Return where each pixel of `still` lies in `moving`, (3, 3); both are (H, W, 3) float32."""
    # No least change: all 100 steps are taken, as the published scores were made.
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 0)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (still, moving)]
    start, everything = np.eye(3, dtype=np.float32), np.ones(still.shape[:2], np.uint8)
    try:
        _, found = cv2.findTransformECC(
            grey[0], grey[1], start, cv2.MOTION_HOMOGRAPHY, criteria, everything, SMOOTHED_PX
        )
    except cv2.error as error:
        raise ValueError(
            "the restored image cannot be laid over gt: no homography makes them correlate"
        ) from error
    return np.asarray(found, np.float32)
