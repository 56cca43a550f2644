"""NIQE: moments, distances and sizes computed by hand, and what every damage does to it."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from laformer import niqe
from laformer.niqe import BLOCK_PX, NUM_FEATURES, Pristine


def simple(mean=0.0):
    return Pristine(np.full(NUM_FEATURES, mean), np.eye(NUM_FEATURES), niqe.usual_window())


@pytest.fixture(scope="module")
def good(shared_data):
    """Return parameters fitted to some photos, and photos they were not fitted to."""
    paths = sorted((shared_data / "kodak24").glob("*.png"))
    photos = [cv2.imread(str(path))[:, :, ::-1] for path in paths[:10]]
    return niqe.fit(photos[2:]), photos[:1]


@pytest.mark.parametrize(("shape", "draw"), [(2, "normal"), (1, "laplace")])
def test_shape_and_widths_of_known_distributions_are_found(shape, draw):
    rng = np.random.default_rng(0)
    values = getattr(rng, draw)(size=(3, 300, 300))
    # A side that is three times as wide has three times as many values.
    is_left, distance = rng.random(values.shape) < 1 / 4, abs(values)
    found, left, right = niqe.asymmetric(np.where(is_left, -distance, 3 * distance))
    even, *_ = niqe.asymmetric(values)
    assert_allclose(even, shape, rtol=0.03)
    assert_allclose(found, shape, rtol=0.03)
    assert_allclose(right / left, 3, rtol=0.03)
    # A width is alpha of exp(-(|x| / alpha) ** shape): sqrt(2) of a normal one, 1 of Laplace's.
    assert_allclose(left, np.sqrt(2) if shape == 2 else 1, rtol=0.03)


def test_a_half_is_weighed_by_bicubic_weights_and_keeps_a_constant_and_a_ramp():
    assert_allclose(niqe.halved(np.full((8, 12), 7.0)), np.full((4, 6), 7.0))
    ramp = np.tile(np.arange(24.0), (24, 1))
    assert_allclose(niqe.halved(ramp)[3:-3, 3:-3], np.tile(np.arange(6.5, 17, 2), (6, 1)))
    spot = np.zeros((24, 24))
    spot[10, 10] = 256**2
    assert niqe.halved(spot)[5, 5] == 111 * 111
    assert niqe.halved(spot)[6, 5] == niqe.halved(spot)[5, 6] == -9 * 111


def test_a_flat_image_leaves_nothing_and_a_step_a_mean_and_a_deviation():
    left, deviation = niqe.unpredicted(np.full((20, 20), 99.0), niqe.usual_window())
    assert_allclose(left, 0, atol=1e-3)
    window = np.zeros((7, 7))
    window[3, 2:5] = 1 / 3
    step = np.tile(np.array([0.0, 0, 0, 0, 9, 9, 9, 9]), (8, 1))
    left, deviation = niqe.unpredicted(step, window)
    # Of 0, 0, 9 the mean is 3 and the deviation sqrt(27 - 9).
    assert_allclose(deviation[4, 3], np.sqrt(18), rtol=1e-6)
    assert_allclose(left[4, 3], -3 / (np.sqrt(18) + 1), rtol=1e-6)


def test_the_distance_is_that_of_two_gaussians(monkeypatch):
    rows = np.zeros((2, NUM_FEATURES))
    rows[1, 0] = 2
    monkeypatch.setattr(niqe, "features", lambda *_: (rows, np.ones(2)))
    pristine = simple()
    pristine.mean[0] = 4
    # Means differ by 3, the variances there are 1 and 2: 3 ** 2 / 1.5.
    assert niqe.niqe(np.zeros((1, 1)), pristine) == pytest.approx(np.sqrt(6))


def test_every_damage_of_a_photo_is_told_and_more_of_it_more(good):
    pristine, photos = good
    rng = np.random.default_rng(0)
    for photo in photos:
        clean = niqe.niqe(photo, pristine)
        noise = rng.normal(size=photo.shape)
        noisy = [niqe.niqe((photo + s * noise).clip(0, 255), pristine) for s in (15, 30, 60)]
        blurred = [niqe.niqe(cv2.GaussianBlur(photo, (0, 0), s), pristine) for s in (1.5, 3, 6)]
        for found in (noisy, blurred):
            assert [clean, *found] == sorted([clean, *found]), found
        grey = np.repeat(photo[:, :, 1:2], 3, axis=2)
        levels = 16 + grey[:, :, 0] * (219 / 255)
        # Grey is RGB of equal channels, but for the range of luma.
        assert niqe.niqe(levels, pristine) == pytest.approx(niqe.niqe(grey, pristine), rel=1e-9)


def test_the_parameters_go_through_a_file_and_are_named_by_what_they_are(good, tmp_path):
    pristine, (photo,) = good
    again = niqe.read(pristine.packed())
    assert again.name == pristine.name
    assert niqe.niqe(photo, again) == niqe.niqe(photo, pristine)
    other = Pristine(pristine.mean + 1e-9, pristine.covariance, pristine.window)
    assert other.name != pristine.name
    io = pytest.importorskip("scipy.io")
    named = {"mu_prisparam": pristine.mean[None], "cov_prisparam": pristine.covariance}
    io.savemat(tmp_path / "a.mat", named)
    assert niqe.read((tmp_path / "a.mat").read_bytes()).name == pristine.name


def test_what_cannot_be_measured_is_explained(tmp_path):
    rng = np.random.default_rng(0)
    flat = np.full((2 * BLOCK_PX, 2 * BLOCK_PX), 9, np.uint8)
    for image, message in (
        (rng.random((95, 300)), "is smaller than a block of 96 x 96 pixels"),
        (255 * rng.random((100, 100)), "1 blocks of 96 x 96 pixels have structure, but NIQE takes"),
        (flat, "0 blocks of"),
    ):
        with pytest.raises(ValueError, match=message):
            niqe.niqe(image, simple())
    with pytest.raises(ValueError, match="too few to fit NIQE, which takes more than 36"):
        niqe.fit([255 * rng.random((200, 200, 3))])
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match="there are other alone"):
        niqe.read((tmp_path / "a.npz").read_bytes())
    with pytest.raises(ValueError, match=r"no \.npz or \.mat with parameters"):
        niqe.read(b"nothing")
    with pytest.raises(ValueError, match=r"mean \(3,\) of NIQE is not \(36,\) finite numbers"):
        Pristine(np.zeros(3), np.eye(NUM_FEATURES), niqe.usual_window())


@pytest.mark.skipif("LAFORMER_NIQE" not in os.environ, reason="names the authors' parameters")
def test_the_authors_parameters_give_the_number_that_matlab_gives(shared_data):
    pristine = niqe.read(Path(os.environ["LAFORMER_NIQE"]).read_bytes())
    baboon = cv2.imread(str(shared_data / "metric_pairs" / "baboon_gt.png"))[:, :, ::-1]
    assert niqe.niqe(baboon, pristine) == pytest.approx(5.72957338, abs=1e-5)
