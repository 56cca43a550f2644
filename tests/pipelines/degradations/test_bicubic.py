"""MATLAB's bicubic: its files to the bit, the same crop by crop, and by hand."""

import doctest

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.degradations import bicubic
from pipelines.degradations.bicubic import SCALES, Bicubic, imresize
from tests.perf.degrade import bicubic_by_rows

RNG = np.random.default_rng(0)
scales = st.sampled_from(SCALES)


@st.composite
def photos(draw, dtypes=(np.uint8, np.uint16, np.float32), most=6):
    """Return a scale and gt of any size that it divides."""
    scale = draw(scales)
    height, width = (scale * draw(st.integers(1, most)) for _ in range(2))
    dtype, seed = draw(st.sampled_from(dtypes)), draw(st.integers(0, 2**32 - 1))
    shape = (height, width, draw(st.sampled_from([1, 3])))
    # Black and white are where sums leave the range.
    gt = np.random.default_rng(seed).choice([0.0, 0.25, 0.7, 1.0], shape)
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    return scale, (gt * peak).astype(dtype)


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def interpolated(gt, scale):
    """Return what torch makes of gt with its borders mirrored: the same kernel in float64."""
    padded = np.pad(
        gt.astype(np.float64), ((2 * scale,) * 2, (2 * scale,) * 2, (0, 0)), "symmetric"
    )
    planes = torch.from_numpy(padded).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(
        planes, scale_factor=1 / scale, mode="bicubic", antialias=True
    )
    return small[0, :, 2:-2, 2:-2].permute(1, 2, 0).numpy()


def test_examples_of_the_docstrings():
    assert doctest.testmod(bicubic).failed == 0


@pytest.mark.parametrize("scale", SCALES)
def test_the_public_files_of_set5_to_the_bit(shared_data, scale):
    files = sorted((shared_data / "set5" / f"lr_x{scale}").glob("*.png"))
    assert len(files) == 5
    for file in files:
        wanted = read(file)
        gt = read(shared_data / "set5" / "hr" / file.name.replace(f"x{scale}.png", ".png"))
        height, width = (scale * side for side in wanted.shape[:2])
        lq = Bicubic(scale=scale)(gt[:height, :width], RNG)
        assert np.array_equal(lq, wanted), file.name


@pytest.mark.parametrize(("scale", "num_others"), [(2, 1), (3, 0), (4, 0)])
def test_files_that_matlab_made_of_doubles(shared_data, scale, num_others):
    folder = shared_data / "matlab_bicubic"
    wanted = read(folder / f"baboon_down_x{scale}_matlab.png").astype(int)
    height, width = (scale * side for side in wanted.shape[:2])
    gt = read(folder / "baboon.png")[:height, :width]
    off = np.abs(Bicubic(scale=scale, round_between=False)(gt, RNG) - wanted)
    # One of 177 120 sums is 188.5 exactly, which MATLAB's doubles miss from below.
    assert np.count_nonzero(off) == off.sum() == num_others


def test_the_pair_of_the_metrics_was_made_of_doubles(shared_data):
    gt, lq = (read(shared_data / "metric_pairs" / f"baboon_{name}.png") for name in ("gt", "lq_x4"))
    assert np.array_equal(Bicubic(scale=4, round_between=False)(gt, RNG), lq)


@given(photos())
def test_dtype_is_kept_sides_are_divided_and_the_input_stays(drawn):
    scale, gt = drawn
    before = gt.copy()
    lq = Bicubic(scale=scale)(gt, RNG)
    height, width, channels = gt.shape
    assert (lq.shape, lq.dtype) == ((height // scale, width // scale, channels), gt.dtype)
    assert lq.tobytes() == Bicubic(scale=scale)(gt, np.random.default_rng(1)).tobytes()
    assert np.array_equal(gt, before)


@settings(deadline=None)
@given(photos(most=12), st.data(), st.booleans())
def test_a_crop_with_its_margin_gives_the_pixels_of_the_whole(drawn, data, round_between):
    scale, gt = drawn
    degrade = Bicubic(scale=scale, round_between=round_between)
    assert degrade.margin_px % scale == 0
    taken, trimmed, wanted = [], [], []
    for side in gt.shape[:2]:
        start = data.draw(st.integers(0, side // scale - 1))
        stop = data.draw(st.integers(start + 1, side // scale))
        first = max(0, start * scale - degrade.margin_px)
        taken.append(slice(first, min(side, stop * scale + degrade.margin_px)))
        trimmed.append(slice(start - first // scale, stop - first // scale))
        wanted.append(slice(start, stop))
    whole = degrade(gt, RNG)[tuple(wanted)]
    crop = degrade(gt[tuple(taken)], RNG)[tuple(trimmed)]
    if gt.dtype == np.float32:
        assert crop == pytest.approx(whole, abs=2e-7)
    else:
        assert np.array_equal(crop, whole)


def test_the_margin_is_no_larger_than_it_must_be():
    for scale in SCALES:
        gt = np.zeros((scale, 9 * scale, 1), np.float32)
        gt[:, 4 * scale : 5 * scale] = 1
        touched = Bicubic(scale=scale)(gt, RNG).ravel() != 0
        assert touched.tolist() == [False] * 2 + [True] * 5 + [False] * 2


@settings(max_examples=30, deadline=None)
@given(photos(dtypes=(np.float32,), most=9))
def test_floats_are_those_of_torch_with_mirrored_borders(drawn):
    scale, gt = drawn
    assert Bicubic(scale=scale)(gt, RNG) == pytest.approx(interpolated(gt, scale), abs=2e-7)


@settings(max_examples=30, deadline=None)
@given(photos(dtypes=(np.uint8, np.uint16), most=9))
def test_without_rounding_between_integers_are_rounded_once(drawn):
    scale, gt = drawn
    lq = Bicubic(scale=scale, round_between=False)(gt, RNG).astype(np.float64)
    sums = np.clip(interpolated(gt, scale), 0, np.iinfo(gt.dtype).max)
    assert np.abs(lq - sums).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("side", [24, 132])
def test_the_reference_row_by_row_agrees(scale, side):
    gt = np.random.default_rng(scale).integers(0, 256, (side, side + 12, 3), dtype=np.uint8)
    gt[:, ::7] = np.where(gt[:, ::7] > 127, 255, 0)
    lq = Bicubic(scale=scale)(gt, RNG).astype(int)
    assert np.abs(lq - bicubic_by_rows(gt, scale)).max() <= 1


def test_float32_rounds_8_bits_as_float64_rounds_them_in_16():
    # Levels whose sums stay in the range of both.
    gt = np.random.default_rng(1).integers(64, 192, (96, 96, 3))
    for scale in SCALES:
        narrow, wide = (Bicubic(scale=scale)(gt.astype(t), RNG) for t in (np.uint8, np.uint16))
        assert np.array_equal(narrow, wide)


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2, st.sampled_from([1, 3]))))
def test_the_same_size_is_the_identity_and_a_flat_image_stays_flat(gt):
    height, width, channels = gt.shape
    assert np.array_equal(imresize(gt, height, width), gt)
    flat = np.full_like(gt, gt[0, 0, 0])
    wanted = np.full((2 * height + 1, 7, channels), gt[0, 0, 0])
    assert np.array_equal(imresize(flat, 2 * height + 1, 7), wanted)


def test_a_step_is_enlarged_by_the_weights_of_keys():
    """At a quarter of the way between pixels: -9, 111, 29 and -3 of 128."""
    step = np.array([0, 0, 0, 128, 128, 128], np.float32).reshape(6, 1, 1) / 128
    wanted = np.array([0, 0, 0, -3, -9, 26, 102, 137, 131, 128, 128, 128]) / 128
    assert imresize(step, 12, 1).ravel() == pytest.approx(wanted, abs=1e-7)
    assert imresize(step[::-1], 12, 1).ravel() == pytest.approx(wanted[::-1], abs=1e-7)


def test_halves_are_rounded_up_and_borders_are_mirrored():
    """At x2 the weights are -3 -9 29 111 111 29 -9 -3 of 256."""
    row = np.array([0, 1, 0, 0, 0, 0, 0, 0], np.float32).reshape(8, 1, 1)
    wanted = np.array([111 - 9, 29, -3, 0]) / 256
    assert imresize(row, 4, 1).ravel() == pytest.approx(wanted, abs=1e-7)
    halves = np.array([1, 1, 1, 0, 0, 0], np.uint8).reshape(6, 1, 1)
    assert imresize(halves, 3, 1).ravel().tolist() == [1, 1, 0]


def test_the_side_that_shrinks_more_goes_first():
    gt = np.random.default_rng(2).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    turned = imresize(gt.transpose(1, 0, 2), 6, 12).transpose(1, 0, 2)
    assert np.array_equal(imresize(gt, 12, 6), turned)


def test_what_cannot_be_done_is_explained():
    with pytest.raises(ValueError, match="scale 5 is not 2, 3 or 4; use for example 4"):
        Bicubic(scale=5)
    with pytest.raises(ValueError, match=r"image 8x6 is not a multiple of the scale 4.*cut off"):
        Bicubic(scale=4)(np.zeros((8, 6, 3), np.uint8), RNG)
    with pytest.raises(ValueError, match="size 0x3 is not positive; ask for at least 1x1"):
        imresize(np.zeros((8, 6, 3), np.uint8), 0, 3)
