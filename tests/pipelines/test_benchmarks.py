"""The inputs of the benchmarks against the numbers the field gets from them."""

import dataclasses
import doctest

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laformer.metrics import luma, psnr, quantise, rounded_luma, shave
from laformer.ssim import gaussian as ssim
from pipelines import benchmarks
from pipelines.benchmarks import (
    BENCHMARKS,
    GAUSSIAN_COLOUR,
    HELD_OUT_RGB,
    KODAK24,
    CentreCrop,
    ModCrop,
    Protocol,
    ProtocolNoise,
    held_out,
    held_out_by,
    held_out_sr,
    sr_y,
)
from pipelines.degradations import GaussianNoise, Jpeg
from pipelines.tasks import TASKS

SIGMAS = (15, 25, 50)


def pairs(benchmark, root):
    """Yield (lq, gt) of every image of the benchmark."""
    for path in sorted((root / benchmark.folder).glob("*.[pb][nm][gp]")):
        if benchmark.protocol.channel == "grey":
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None]
        else:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        gt = benchmark.prepare(image)
        yield benchmark.degrade(gt), gt


def test_examples_of_the_docstrings():
    assert doctest.testmod(benchmarks).failed == 0


@pytest.mark.parametrize(
    ("name", "num", "db"),
    [
        ("kodak24-sigma15", 24, 24.7565),
        ("kodak24-sigma25", 24, 20.4370),
        ("kodak24-sigma50", 24, 14.8662),
        ("set12-sigma15", 12, 24.7036),
        ("set12-sigma25", 12, 20.3688),
        ("set12-sigma50", 12, 14.7878),
    ],
)
def test_psnr_of_the_noisy_input(shared_data, name, num, db):
    scores = [psnr(quantise(lq), gt) for lq, gt in pairs(BENCHMARKS[name], shared_data)]

    assert len(scores) == num
    assert np.mean(scores) == pytest.approx(db, abs=6e-5)


@pytest.mark.parametrize(
    ("name", "db", "unclipped_db"),
    [
        ("cbsd68-sigma15", 24.8438, 24.6188),
        ("cbsd68-sigma25", 20.5426, 20.1818),
        ("cbsd68-sigma50", 15.0034, 14.1612),
    ],
)
def test_psnr_of_the_noisy_input_as_uint8_and_unclipped(shared_data, name, db, unclipped_db):
    scores = [
        (psnr(quantise(lq), gt), psnr(lq * np.float32(255), gt))
        for lq, gt in pairs(BENCHMARKS[name], shared_data)
    ]

    assert len(scores) == 68
    assert np.mean(scores, axis=0) == pytest.approx([db, unclipped_db], abs=6e-5)


@pytest.mark.parametrize(
    ("quality", "db", "similarity"),
    [(10, 27.82, 0.7595), (20, 30.12, 0.8344), (30, 31.48, 0.8666), (40, 32.43, 0.8849)],
)
def test_psnr_and_ssim_of_jpeg(shared_data, quality, db, similarity):
    found = list(pairs(BENCHMARKS[f"classic5-q{quality}"], shared_data))

    assert len(found) == 5
    assert np.mean([psnr(lq, gt) for lq, gt in found]) == pytest.approx(db, abs=6e-3)
    assert np.mean([ssim(lq, gt) for lq, gt in found]) == pytest.approx(similarity, abs=6e-5)


@pytest.mark.parametrize(
    ("name", "num", "db", "similarity"),
    [
        ("set5-x2", 5, 33.65, 0.9293),
        ("set5-x3", 5, 30.39, 0.8678),
        ("set5-x4", 5, 28.42, 0.8102),
        ("set14-x2", 14, 30.31, 0.8692),
        ("set14-x4", 14, 26.09, 0.7042),
    ],
)
def test_psnr_and_ssim_of_bicubic_enlargement(shared_data, name, num, db, similarity):
    benchmark = BENCHMARKS[name]
    found = [
        [rounded_luma(shave(image, benchmark.protocol.border_px)) for image in (shown, gt)]
        for lq, gt in pairs(benchmark, shared_data)
        for shown in [benchmark.shown(lq)]
    ]

    assert benchmark.protocol.channel == "y-rounded"
    assert len(found) == num
    assert np.mean([psnr(shown, gt) for shown, gt in found]) == pytest.approx(db, abs=6e-3)
    assert np.mean([ssim(shown, gt) for shown, gt in found]) == pytest.approx(similarity, abs=6e-5)


@pytest.mark.parametrize(("scale", "higher_db"), [(2, 0.03), (4, 0.01)])
def test_bicubic_reads_higher_where_luma_is_not_rounded(shared_data, scale, higher_db):
    benchmark = BENCHMARKS[f"set5-x{scale}"]
    gains = [
        psnr(luma(shown), luma(clean)) - psnr(rounded_luma(shown), rounded_luma(clean))
        for lq, gt in pairs(benchmark, shared_data)
        for shown, clean in [[shave(image, scale) for image in (benchmark.shown(lq), gt)]]
    ]

    assert np.mean(gains) == pytest.approx(higher_db, abs=5e-3)


def test_the_table_lists_each_benchmark_once():
    assert list(BENCHMARKS) == [
        *(
            f"{folder}-sigma{sigma}"
            for folder in ("cbsd68", "kodak24", "set12")
            for sigma in SIGMAS
        ),
        *(f"classic5-q{quality}" for quality in (10, 20, 30, 40)),
        *(f"set5-x{scale}" for scale in (2, 3, 4)),
        *(f"set14-x{scale}" for scale in (2, 4)),
    ]
    assert all(benchmark.name == name for name, benchmark in BENCHMARKS.items())


def test_two_protocols_never_share_a_name():
    protocols = {benchmark.protocol for benchmark in BENCHMARKS.values()}
    protocols |= {TASKS["jpeg"].gate.protocol, HELD_OUT_RGB}
    protocols |= {sr_y(scale) for scale in (2, 3, 4)}

    assert len({protocol.name for protocol in protocols}) == len(protocols) == 8


def test_published_scores_stand_beside_colour_benchmarks():
    assert dict(BENCHMARKS["cbsd68-sigma25"].published) == {"FFDNet": 31.21, "SwinIR": 31.78}
    assert all(
        benchmark.published
        for benchmark in BENCHMARKS.values()
        if benchmark.protocol is GAUSSIAN_COLOUR
    )


@pytest.mark.parametrize("sigma", SIGMAS)
def test_held_out_photos_are_measured_as_the_public_ones(sigma):
    public = BENCHMARKS[f"cbsd68-sigma{sigma}"]

    assert held_out(sigma) == dataclasses.replace(
        public, name=f"held-out-sigma{sigma}", folder="held-out", published=()
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_held_out_photos_are_enlarged_as_the_public_ones(scale):
    public = BENCHMARKS[f"set5-x{scale}"]

    assert held_out_sr(scale) == dataclasses.replace(
        public, name=f"held-out-x{scale}", folder="held-out", published=()
    )


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.uint8, st.tuples(*[st.integers(4, 19)] * 2, st.sampled_from([1, 3]))),
    st.sampled_from([2, 3, 4]),
)
def test_the_input_of_super_resolution_is_shown_in_the_size_of_gt(photo, scale):
    benchmark = held_out_sr(scale)
    gt = benchmark.prepare(photo)
    lq = benchmark.degrade(gt)

    assert np.array_equal(gt, photo[: gt.shape[0], : gt.shape[1]])
    assert all(0 <= cut < scale for cut in np.subtract(photo.shape[:2], gt.shape[:2]))
    assert [scale * side for side in lq.shape[:2]] == list(gt.shape[:2])
    shown = benchmark.shown(lq)
    assert (shown.shape, shown.dtype) == (gt.shape, np.uint8)


def test_an_input_of_the_size_of_gt_is_shown_as_it_is():
    lq = np.zeros((5, 7, 3), np.uint8)

    assert np.shares_memory(held_out(25).shown(lq), lq)


@pytest.mark.parametrize("degrade", [GaussianNoise(sigma=(0, 50)), Jpeg(quality=(10, 95))])
def test_what_a_task_draws_for_a_held_out_photo_is_the_photos_own(degrade):
    benchmark = held_out_by("some-task", degrade)
    gt = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    other = gt.copy()
    other[0, 0, 0] ^= 1
    lq = benchmark.degrade(gt)

    assert (benchmark.name, benchmark.task) == ("held-out-some-task", "some-task")
    assert benchmark.protocol is HELD_OUT_RGB
    assert lq.dtype in (np.uint8, np.float32)
    assert np.array_equal(lq, held_out_by("another", degrade).degrade(gt.copy()))
    # One level of one pixel is another draw everywhere.
    assert np.mean(lq != benchmark.degrade(other)) > 0.1


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.uint8, st.tuples(*[st.integers(1, 8)] * 2, st.sampled_from([1, 3]))),
    st.integers(0, 100),
)
def test_noise_is_the_same_at_every_call_and_leaves_gt_alone(gt, sigma):
    before = gt.copy()

    lq = ProtocolNoise(sigma=sigma)(gt)

    assert lq.dtype == np.float32
    assert lq.shape == gt.shape
    assert np.array_equal(lq, ProtocolNoise(sigma=sigma)(gt))
    assert np.array_equal(gt, before)


def test_noise_is_what_numpy_draws_first_after_seed_0():
    gt = np.array([[[0, 128, 255]]], np.uint8)
    drawn = [1.764052345967664, 0.4001572083672233, 0.9787379841057392]

    assert ProtocolNoise(sigma=25)(gt) * 255 == pytest.approx(gt + 25 * np.array([[drawn]]))


def test_noise_of_grey_is_that_of_the_image_without_channel_axis():
    gt = np.zeros((6, 5, 1), np.uint8)

    assert np.array_equal(ProtocolNoise(sigma=25)(gt)[..., 0], ProtocolNoise(sigma=25)(gt[..., 0]))


def test_noise_is_not_clipped_and_vanishes_at_zero():
    gt = np.zeros((32, 32, 3), np.uint8)

    assert ProtocolNoise(sigma=25)(gt).min() < 0
    assert ProtocolNoise(sigma=25)(gt + 255).max() > 1
    assert np.array_equal(ProtocolNoise(sigma=0)(gt + 100), (gt + 100) / np.float32(255))


@pytest.mark.parametrize("shape", [(512, 768, 3), (768, 512, 3)])
def test_kodak24_is_the_centre(shape):
    gt = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    top, left = (shape[0] - 500) // 2, (shape[1] - 500) // 2

    assert np.array_equal(KODAK24(gt), gt[top:-top, left:-left])
    assert KODAK24(gt).shape == (500, 500, 3)


def test_errors_name_the_value_and_the_rule():
    with pytest.raises(ValueError, match="image 321x481 is smaller than the crop 500x500"):
        CentreCrop(side_px=500)(np.zeros((321, 481, 3), np.uint8))
    with pytest.raises(ValueError, match="sigma -1 is negative"):
        ProtocolNoise(sigma=-1)
    with pytest.raises(TypeError, match="gt uint16 is not uint8"):
        ProtocolNoise(sigma=25)(np.zeros((2, 2, 3), np.uint16))
    with pytest.raises(ValueError, match="border_px -1 is negative"):
        Protocol(name="odd", channel="y", border_px=-1)
    with pytest.raises(ValueError, match=r"'y-rounded' is made of uint8.*use channel 'y'"):
        Protocol(name="odd", channel="y-rounded", quantise=False)
    with pytest.raises(ValueError, match="image 3x9 is smaller than the scale 4; use larger"):
        ModCrop(scale=4)(np.zeros((3, 9, 3), np.uint8))
