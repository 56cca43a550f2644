"""Defocus: disks, depths, and the two views of a dual-pixel sensor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.defocus import Defocus, DualPixelDefocus, disk, half_disk
from pipelines.degradations.linear_light import to_linear
from tests.pictures import photos, seeds

radii = st.floats(0, 20)


@settings(max_examples=50, deadline=None)
@given(photos, seeds)
def test_in_focus_is_the_identity(gt, seed):
    sharp = {"radius": (0, 0.5), "highlights": (1, 1)}
    lq = Defocus(**sharp)(gt, np.random.default_rng(seed))
    assert lq == pytest.approx(gt, abs=1e-6)
    views = DualPixelDefocus(**sharp)(gt, np.random.default_rng(seed))
    assert views == pytest.approx(np.concatenate([gt, gt], axis=2), abs=1e-6)


@settings(deadline=None)
@given(radii)
def test_a_disk_has_unit_sum_its_area_and_stays_in_the_margin(radius):
    kernel = disk(radius)
    assert kernel.min() >= 0
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert len(kernel) // 2 <= Defocus(radius=(0, radius)).margin_px
    if radius >= 1:
        assert 1 / kernel.max() == pytest.approx(np.pi * radius**2, rel=0.15)


@settings(deadline=None)
@given(radii)
def test_two_halves_have_unit_sum_and_their_mean_is_the_disk(radius):
    left, right = half_disk(radius, -1), half_disk(radius, 1)
    assert left.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(left, right[:, ::-1])
    assert (left + right) / 2 == pytest.approx(disk(radius), abs=1e-7)


def test_disparity_grows_with_the_radius():
    def disparity(radius):
        right = half_disk(radius, 1)
        away = np.arange(len(right)) - len(right) // 2
        return 2 * float(right.sum(axis=0) @ away)

    # The centroid of a half disk lies 4 r / (3 pi) from its straight side.
    for radius in (3, 5, 10):
        assert disparity(radius) == pytest.approx(8 * radius / (3 * np.pi), rel=0.05)


@settings(max_examples=50, deadline=None)
@given(seeds, st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40))
def test_the_mean_of_both_views_is_the_defocus_of_the_whole_lens(seed, channels, height, width):
    gt = np.random.default_rng(seed).random((height, width, channels), np.float32)
    options = {"radius": (1, 10), "highlights": (1, 1)}
    views = to_linear(DualPixelDefocus(**options)(gt, np.random.default_rng(seed)))
    whole = to_linear(Defocus(**options)(gt, np.random.default_rng(seed)))
    mean = (views[..., :channels] + views[..., channels:]) / 2
    assert mean == pytest.approx(whole, abs=1e-5)


def test_either_view_lies_to_the_left_as_often():
    gt = np.zeros((41, 41, 1), np.uint16)
    gt[20, 20] = 60000
    lens = DualPixelDefocus(radius=(8, 8), layers=1)
    sides = []
    for seed in range(40):
        light = to_linear(lens(gt, np.random.default_rng(seed)))
        left, right = (light[..., i].sum(axis=0) @ np.arange(41) for i in (0, 1))
        sides.append(left < right)
    assert 10 < sum(sides) < 30


@settings(deadline=None)
@given(seeds, st.integers(1, 50), st.integers(1, 50))
def test_masks_sum_to_one_and_radii_to_the_order_of_depth(seed, height, width):
    layers = Defocus(radius=(2, 9), layers=4).depths(height, width, np.random.default_rng(seed))
    assert sum(mask for _, mask in layers) == pytest.approx(np.ones((height, width, 1)), abs=1e-5)
    values = [radius for radius, _ in layers]
    assert values == sorted(values)
    assert 2 <= values[0] <= values[-1] <= 9
    assert 1 <= len(layers) <= 4


def test_light_is_kept_and_a_clipped_lamp_makes_a_brighter_disk():
    gt = np.zeros((41, 41, 1), np.uint16)
    gt[20, 20] = 65535
    one, four = (
        to_linear(
            Defocus(radius=(8, 8), layers=1, highlights=(gain, gain))(gt, np.random.default_rng(0))
        )
        for gain in (1, 4)
    )
    assert one.sum() == pytest.approx(1, rel=1e-3)
    assert four.sum() == pytest.approx(4, rel=1e-3)
    assert one[20, 20] == pytest.approx(one[20, 26])


def test_nothing_beyond_the_margin_enters_the_trimmed_crop():
    gt = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    lens = Defocus(radius=(7, 7), layers=1)
    margin = lens.margin_px
    assert margin == 7
    whole = lens(gt, np.random.default_rng(7))
    cut = lens(gt[9:-9, 9:-9], np.random.default_rng(7))
    inside = slice(9 + margin, -9 - margin)
    assert np.array_equal(cut[margin:-margin, margin:-margin], whole[inside, inside])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"radius": (9, 5)}, r"radius \(9, 5\) is not 0 <= low <= high; use for example"),
        ({"radius": (-1, 5)}, r"radius \(-1, 5\) is not 0 <= low"),
        ({"layers": 0}, r"layers 0 is below 1; use for example 3"),
        ({"highlights": (3, 1)}, r"highlights \(3, 1\) is not 1 <= low <= high"),
    ],
)
@pytest.mark.parametrize("kind", [Defocus, DualPixelDefocus])
def test_bad_ranges_are_refused(kind, bad, message):
    with pytest.raises(ValueError, match=message):
        kind(**bad)
