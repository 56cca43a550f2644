"""The inputs of the benchmarks against the numbers the field gets from them."""

import dataclasses
import doctest

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laformer.metrics import psnr, quantise, ssim
from pipelines import benchmarks
from pipelines.benchmarks import (
    BENCHMARKS,
    GAUSSIAN_COLOUR,
    KODAK24,
    CentreCrop,
    Protocol,
    ProtocolNoise,
    held_out,
    sr_y,
)
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


def test_the_table_lists_each_benchmark_once():
    assert list(BENCHMARKS) == [
        *(
            f"{folder}-sigma{sigma}"
            for folder in ("cbsd68", "kodak24", "set12")
            for sigma in SIGMAS
        ),
        *(f"classic5-q{quality}" for quality in (10, 20, 30, 40)),
    ]
    assert all(benchmark.name == name for name, benchmark in BENCHMARKS.items())


def test_two_protocols_never_share_a_name():
    protocols = {benchmark.protocol for benchmark in BENCHMARKS.values()}
    protocols |= {TASKS["jpeg"].gate.protocol, *(sr_y(scale) for scale in (2, 3, 4))}

    assert len({protocol.name for protocol in protocols}) == len(protocols) == 7


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
