"""The inputs of the benchmarks against the numbers the field gets from them."""

import dataclasses
import doctest

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laformer.blocking import psnr_b
from laformer.metrics import luma, psnr, quantise, rounded_luma, shave
from laformer.ssim import gaussian as ssim
from pipelines import benchmarks, inputs, places
from pipelines.benchmarks import BENCHMARKS
from pipelines.degradations import GaussianNoise, Jpeg
from pipelines.families import held_out, held_out_by, held_out_sr
from pipelines.inputs import KODAK24, CentreCrop, ModCrop, ProtocolNoise, Taken
from pipelines.protocols import GAUSSIAN_COLOUR, HELD_OUT_RGB, Protocol, sr_y
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
    assert doctest.testmod(inputs).failed == 0
    assert doctest.testmod(places).failed == 0


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
    ("quality", "db", "similarity", "blocks_db"),
    [
        (10, 27.82, 0.7595, 25.21),
        (20, 30.12, 0.8344, 27.50),
        (30, 31.48, 0.8666, 28.94),
        (40, 32.43, 0.8849, 29.92),
    ],
)
def test_psnr_ssim_and_psnr_b_of_jpeg(shared_data, quality, db, similarity, blocks_db):
    found = list(pairs(BENCHMARKS[f"classic5-q{quality}"], shared_data))

    assert len(found) == 5
    assert np.mean([psnr(lq, gt) for lq, gt in found]) == pytest.approx(db, abs=6e-3)
    assert np.mean([ssim(lq, gt) for lq, gt in found]) == pytest.approx(similarity, abs=6e-5)
    assert np.mean([psnr_b(lq, gt) for lq, gt in found]) == pytest.approx(blocks_db, abs=6e-3)


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


def test_the_table_lists_each_benchmark_once_under_its_name():
    assert all(benchmark.name == name for name, benchmark in BENCHMARKS.items())
    assert len(BENCHMARKS) == len(benchmarks._TABLE) == 72
    assert all(benchmark.task in TASKS for benchmark in BENCHMARKS.values())
    assert not any(
        word in benchmark.folder
        for benchmark in BENCHMARKS.values()
        for word in ("\\", "..", "//", "held-out")
    )


@pytest.mark.parametrize(
    ("names", "protocol", "measures"),
    [
        (("cbsd68-sigma50", "urban100-sigma15"), "gaussian-colour", "psnr_db"),
        (("set12-sigma15", "bsd68-sigma25"), "gaussian-grey", "psnr_db"),
        (("classic5-q10", "live1-q40"), "jpeg-grey", "psnr_db ssim psnr_b_db"),
        (("live1-colour-q10",), "jpeg-colour", "psnr_db ssim psnr_b_db"),
        (("set14-x3", "manga109-x3"), "sr-y-x3", "psnr_db ssim"),
        (("rain100l", "rain100h", "test100", "test1200", "test2800"), "derain-y", "psnr_db ssim"),
        (("gopro", "hide"), "deblur-rgb", "psnr_db ssim_3d"),
        (("realblur-j", "realblur-r"), "realblur-aligned", "psnr_db ssim"),
        (("sidd",), "sidd-rgb", "psnr_db ssim_3d"),
        (("dpdd-single", "dpdd-single-indoor"), "dpdd-rgb-8bit", "psnr_db ssim_uniform7 mae"),
        (("dpdd-dual", "dpdd-dual-outdoor"), "dpdd-rgb-16bit", "psnr_db ssim_uniform7 mae"),
        (("sots-indoor", "dense-haze", "nh-haze"), "dehaze-rgb", "psnr_db ssim ssim_pooled"),
        (("csd", "srrs", "snow100k"), "desnow-rgb", "psnr_db ssim_pooled"),
        (("snow100k-s", "outdoor-rain", "raindrop"), "weather-y", "psnr_db ssim_uniform11"),
    ],
)
def test_each_field_is_judged_by_its_own_rule(names, protocol, measures):
    for name in names:
        found = BENCHMARKS[name].protocol
        assert (found.name, " ".join(found.measures)) == (protocol, measures)
        assert found.border_px == (3 if protocol == "sr-y-x3" else 0)
        # Floats are rounded where the field compares files, and kept where it compares outputs.
        floats = ("sidd-rgb", "dpdd-rgb-8bit", "dpdd-rgb-16bit", "dehaze-rgb", "desnow-rgb")
        assert found.quantise == (protocol not in floats)


def test_two_protocols_never_share_a_name():
    protocols = {benchmark.protocol for benchmark in BENCHMARKS.values()}
    protocols |= {task.gate.protocol for task in TASKS.values()}
    protocols |= {sr_y(scale) for scale in (2, 3, 4)}

    assert len({protocol.name for protocol in protocols}) == len(protocols) == 17


def test_an_input_that_was_taken_cannot_be_made():
    degrade = BENCHMARKS["dpdd-dual"].degrade

    assert isinstance(degrade, Taken)
    assert len(degrade.folders) == TASKS["deblur-defocus-dual"].views
    with pytest.raises(TypeError, match="is in DPDD/test_l/source, DPDD/test_r/source; read it"):
        degrade(np.zeros((4, 4, 3), np.uint8))


def test_published_scores_stand_beside_colour_benchmarks():
    assert dict(BENCHMARKS["cbsd68-sigma25"].published) == {"FFDNet": 31.21, "SwinIR": 31.78}
    assert all(
        benchmark.published
        for benchmark in BENCHMARKS.values()
        if benchmark.protocol is GAUSSIAN_COLOUR and benchmark.folder != "urban100/hr"
    )
    assert dict(BENCHMARKS["gopro"].published) == {"NAFNet-64": 33.71, "Restormer": 32.92}
    assert dict(BENCHMARKS["csd"].published) == {"ConvIR-B": 39.10}


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
    with pytest.raises(ValueError, match="bits 16 would be rounded to uint8"):
        Protocol(name="odd", channel="rgb", bits=16)
    with pytest.raises(ValueError, match="border_px 2 would shift the blocks of psnr_b_db"):
        Protocol(name="odd", channel="rgb", border_px=2, measures=("psnr_b_db",))
    with pytest.raises(ValueError, match="align compares RGB by psnr_db and ssim, not rgb by mae"):
        Protocol(name="odd", channel="rgb", align=True, measures=("mae",))
    with pytest.raises(ValueError, match="image 3x9 is smaller than the scale 4; use larger"):
        ModCrop(scale=4)(np.zeros((3, 9, 3), np.uint8))
