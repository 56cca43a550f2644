"""Alignment brings back a homography and a brightness that are known."""

import cv2
import numpy as np
import pytest

from laformer import ssim
from laformer.alignment import aligned, masked_psnr
from laformer.metrics import psnr


@pytest.fixture(scope="module")
def gt():
    rng = np.random.default_rng(0)
    fine = cv2.GaussianBlur(rng.normal(0, 60, (160, 200, 3)), (0, 0), 2)
    coarse = cv2.GaussianBlur(rng.normal(0, 900, (160, 200, 3)), (0, 0), 12)
    return (120 + 2 * fine + coarse).clip(0, 255).astype(np.uint8)


def test_a_shifted_and_darker_image_is_laid_over_gt(gt):
    moved = cv2.warpPerspective(
        gt.astype(np.float32),
        np.array([[1, 0.002, 2.3], [-0.001, 1, -1.6], [0, 1e-6, 1]], np.float32),
        (200, 160),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    restored, still, mask = aligned(moved * 0.9, gt)
    assert 0.95 < mask.mean() < 1
    assert masked_psnr(restored, still, mask) > psnr(moved * 0.9, gt) + 15
    assert ssim.gaussian(restored, still, mask=mask) > 0.98
    assert not restored[~mask].any()
    assert not still[~mask].any()


def test_an_image_that_lies_right_is_left_alone(gt):
    restored, still, mask = aligned(gt, gt)
    assert mask.all()
    assert masked_psnr(restored, still, mask) > 60
    assert masked_psnr(still, still, mask) == np.inf


def test_what_cannot_be_aligned_is_explained(gt):
    with pytest.raises(ValueError, match="black"):
        aligned(np.zeros_like(gt), gt)
    with pytest.raises(ValueError, match="no homography"):
        aligned(np.full_like(gt, 100), gt)
    with pytest.raises(ValueError, match=r"\(160, 200, 1\) is not \(H, W, 3\)"):
        aligned(gt[..., :1], gt[..., :1])
    with pytest.raises(ValueError, match="leaves no pixel"):
        masked_psnr(np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), np.zeros((2, 2), np.bool_))
