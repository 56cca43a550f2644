"""PSNR-B against its definition."""

import doctest

import cv2
import numpy as np
import pytest

from laformer import blocking
from laformer.blocking import psnr_b
from laformer.metrics import psnr


def by_definition(x, y):
    """Yim and Bovik, pair of pixels by pair of pixels."""
    height, width = x.shape
    edges, others = [], []
    for i in range(height):
        for j in range(width):
            for k, m, last in ((i, j + 1, j), (i + 1, j, i)):
                if k < height and m < width:
                    pairs = edges if last % 8 == 7 else others
                    pairs.append((float(x[i, j]) - float(x[k, m])) ** 2)
    more = np.mean(edges) - np.mean(others)
    effect = more * np.log2(8) / np.log2(min(x.shape)) if more > 0 else 0
    return 10 * np.log10(255**2 / (np.mean((x.astype(float) - y.astype(float)) ** 2) + effect))


def test_examples_of_the_docstrings():
    assert doctest.testmod(blocking).failed == 0


@pytest.mark.parametrize("shape", [(33, 40), (24, 17)])
@pytest.mark.parametrize("quality", [5, 95])
def test_psnr_b_is_as_defined(shape, quality):
    rng = np.random.default_rng(0)
    gt = cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (0, 0), 2)
    _, file = cv2.imencode(".jpg", gt, [cv2.IMWRITE_JPEG_QUALITY, quality])
    lq = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
    assert psnr_b(lq, gt) == pytest.approx(by_definition(lq, gt), abs=1e-9)


def test_jpeg_has_blocks_and_noise_has_none(shared_data):
    gt = cv2.imread(str(shared_data / "classic5/lena.bmp"), cv2.IMREAD_GRAYSCALE)
    _, file = cv2.imencode(".jpg", gt, [cv2.IMWRITE_JPEG_QUALITY, 10])
    lq = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
    assert psnr_b(lq, gt) < psnr(lq, gt) - 1
    noisy = gt + np.random.default_rng(0).normal(0, 10, gt.shape)
    assert psnr_b(noisy, gt) == pytest.approx(psnr(noisy, gt), abs=0.1)


def test_colour_is_the_average_of_its_channels_and_equal_images_are_infinite():
    x, y = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    channels = [psnr_b(x[..., c], y[..., c]) for c in range(3)]
    assert psnr_b(x, y) == pytest.approx(np.mean(channels))
    flat = np.full((16, 16, 1), 7, np.uint8)
    assert psnr_b(flat, flat) == np.inf
    with pytest.raises(ValueError, match="more than 8"):
        psnr_b(flat[:8], flat[:8])
