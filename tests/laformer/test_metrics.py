"""The metrics against published numbers, against scikit-image, and against their definitions."""

import doctest
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity
from torch.nn.functional import interpolate

from laformer import metrics
from laformer.metrics import luma, mae, psnr, quantise, rounded_luma, shave
from laformer.ssim import gaussian as ssim

images = arrays(np.uint8, st.tuples(*[st.integers(11, 16)] * 2, st.sampled_from([1, 3])))
quick = settings(max_examples=25, deadline=None)


def read_rgb(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def read_grey(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def upscale(lq, scale):
    """MATLAB's bicubic `imresize(im2double(lq), scale)`: (H, W, C) uint8 -> (sH, sW, C) uint8."""
    pad = 2 * scale
    padded = np.pad(lq, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    x = torch.from_numpy(padded.astype(np.float64) / 255).permute(2, 0, 1)[None]
    x = interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)
    return shave(quantise(x[0].permute(1, 2, 0).numpy()), pad * scale)


def noisy_photo(sigma):
    """A smooth image and the same with noise of `sigma` levels, one realisation scaled."""
    gt = np.add.outer(np.linspace(50, 200, 32), np.linspace(-30, 30, 40))
    return gt + sigma * np.random.default_rng(0).normal(size=gt.shape), gt


def test_examples_of_the_docstrings():
    assert doctest.testmod(metrics).failed == 0


def test_baboon_x4_scores_as_published(shared_data):
    gt = read_rgb(shared_data / "metric_pairs/baboon_gt.png")
    restored = upscale(read_rgb(shared_data / "metric_pairs/baboon_lq_x4.png"), 4)

    restored, gt = shave(restored, 4), shave(gt, 4)

    assert psnr(restored, gt) == pytest.approx(20.419710, abs=1e-6)
    assert psnr(luma(restored), luma(gt)) == pytest.approx(22.441898, abs=2e-6)
    assert ssim(restored, gt) == pytest.approx(0.391853, abs=1e-6)
    assert ssim(luma(restored), luma(gt)) == pytest.approx(0.453097, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "psnr_y", "ssim_y"), [(2, 33.65, 0.9293), (3, 30.39, 0.8678), (4, 28.42, 0.8102)]
)
def test_bicubic_set5_scores_as_published_on_rounded_luma(shared_data, scale, psnr_y, ssim_y):
    scores = []
    for path in sorted((shared_data / "set5/hr").iterdir()):
        restored = upscale(
            read_rgb(shared_data / f"set5/lr_x{scale}/{path.stem}x{scale}.png"), scale
        )
        gt = read_rgb(path)[: restored.shape[0], : restored.shape[1]]
        restored, gt = (rounded_luma(shave(x, scale)) for x in (restored, gt))
        scores.append((psnr(restored, gt), ssim(restored, gt)))

    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(psnr_y, abs=6e-3)
    assert mean_ssim == pytest.approx(ssim_y, abs=6e-5)


@pytest.mark.parametrize(
    ("quality", "db", "similarity"),
    [(10, 27.82, 0.7595), (20, 30.12, 0.8344), (30, 31.48, 0.8666), (40, 32.43, 0.8849)],
)
def test_jpeg_classic5_scores_as_published(shared_data, quality, db, similarity):
    scores = []
    for path in sorted((shared_data / "classic5").iterdir()):
        gt = read_grey(path)
        _, file = cv2.imencode(".jpg", gt, [cv2.IMWRITE_JPEG_QUALITY, quality])
        lq = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
        scores.append((psnr(lq, gt), ssim(lq, gt)))

    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(db, abs=6e-3)
    assert mean_ssim == pytest.approx(similarity, abs=6e-5)


def test_psnr_of_one_level_everywhere():
    one, two = np.full((8, 8, 3), 1, np.uint8), np.full((8, 8, 3), 2, np.uint8)

    assert psnr(one, two) == pytest.approx(48.1308036, abs=1e-7)


@quick
@given(images, st.data())
def test_psnr_is_symmetric_and_infinite_for_equal_images(x, data):
    y = data.draw(arrays(np.uint8, x.shape))

    assert psnr(x, y) == psnr(y, x)
    assert psnr(x, x) == math.inf


@quick
@given(images, st.floats(0.1, 10), st.floats(1.1, 3))
def test_psnr_falls_by_the_growth_of_the_noise(gt, sigma, factor):
    noise = np.random.default_rng(0).normal(size=gt.shape)

    fall = psnr(gt + sigma * noise, gt) - psnr(gt + factor * sigma * noise, gt)

    assert fall == pytest.approx(20 * math.log10(factor), abs=1e-6)


def test_ssim_falls_as_noise_grows():
    scores = [ssim(*noisy_photo(sigma)) for sigma in (0, 5, 15, 25, 50)]

    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


@quick
@given(images, st.data())
def test_ssim_is_symmetric_bounded_and_one_for_equal_images(x, data):
    y = data.draw(arrays(np.uint8, x.shape))

    assert ssim(x, x) == 1
    assert ssim(x, y) == ssim(y, x)
    assert -1 <= ssim(x, y) <= 1


@quick
@given(images, st.data())
def test_ssim_agrees_with_scikit_image(x, data):
    y = data.draw(arrays(np.uint8, x.shape))

    # Its default is another SSIM: uniform 7x7 and the unbiased covariance.
    expected = structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
    )

    assert ssim(x, y) == pytest.approx(expected, abs=1e-9)


@quick
@given(images, st.data())
def test_the_unit_does_not_matter_when_peak_tells_it(x, data):
    y = data.draw(arrays(np.uint8, x.shape))

    assert ssim(x / 255, y / 255, peak=1) == pytest.approx(ssim(x, y), abs=1e-9)
    assert psnr(x / 255, y / 255, peak=1) == pytest.approx(psnr(x, y))


def test_ssim_of_colour_is_the_average_of_the_channels():
    x, y = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)

    assert ssim(x, y) == pytest.approx(np.mean([ssim(x[..., c], y[..., c]) for c in range(3)]))


def test_grey_with_and_without_its_channel_axis_scores_the_same():
    x, y = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 1), dtype=np.uint8)

    assert ssim(x, y) == pytest.approx(ssim(x[..., 0], y[..., 0]), abs=1e-12)
    assert psnr(x, y) == psnr(x[..., 0], y[..., 0])


@quick
@given(arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3))))
def test_rounded_luma_is_within_half_a_level_of_luma(rgb):
    y, rounded = luma(rgb), rounded_luma(rgb)

    assert rounded.dtype == np.uint8
    assert 16 <= rounded.min() <= rounded.max() <= 235
    assert np.abs(y - rounded).max() <= 0.5 + 1e-9
    assert np.allclose(luma(rgb.astype(np.float32)), y)


def test_luma_is_not_full_range():
    grey = np.array([[[10, 10, 10]], [[20, 20, 20]]], np.uint8)

    assert np.diff(luma(grey), axis=0).item() == pytest.approx(10 * 219 / 255)


@quick
@given(arrays(np.uint8, (4, 5, 3)), st.sampled_from([np.float32, np.float64]))
def test_quantise_undoes_division(levels, dtype):
    assert np.array_equal(quantise(levels.astype(dtype) / 255), levels)


def test_shave_of_no_border_is_the_image():
    x = np.arange(24).reshape(4, 6)

    assert np.array_equal(shave(x, 0), x)
    assert np.array_equal(shave(x, 1), x[1:3, 1:5])


def test_the_mean_absolute_error_is_a_part_of_the_peak():
    x, y = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)

    assert mae(x, y) == pytest.approx(np.abs(x / 255 - y / 255).mean())
    assert mae(x / 255, y / 255, peak=1) == pytest.approx(mae(x, y))
    assert mae(x, x) == 0


@pytest.mark.parametrize("metric", [psnr, ssim, mae])
def test_metrics_name_both_shapes_when_they_differ(metric):
    with pytest.raises(ValueError, match=r"\(16, 16, 3\) and gt \(16, 17, 3\)"):
        metric(np.zeros((16, 16, 3)), np.zeros((16, 17, 3)))


def test_errors_name_the_value_and_the_rule():
    with pytest.raises(ValueError, match=r"\(10, 16, 3\) .* at least 11"):
        ssim(np.zeros((10, 16, 3)), np.zeros((10, 16, 3)))
    with pytest.raises(ValueError, match=r"\(4, 4, 1\) is not \(H, W, 3\)"):
        luma(np.zeros((4, 4, 1)))
    with pytest.raises(TypeError, match="float64 is not uint8"):
        rounded_luma(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="1 of 3 values"):
        quantise(np.array([0, np.nan, 1]))
    with pytest.raises(ValueError, match=r"border 2 .* use 0 to 1"):
        shave(np.zeros((4, 6)), 2)
    with pytest.raises(ValueError, match="border -1 is negative"):
        shave(np.zeros((4, 6)), -1)
