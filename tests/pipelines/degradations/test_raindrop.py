"""Raindrops: what is kept, where drops lie, and what they show."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations.raindrop import Pane, Raindrops
from tests.pictures import photos

DENSE = Raindrops(coverage=(1, 1), radius_px=(1, 9))


@settings(max_examples=20, deadline=None)
@given(photos, st.integers(0, 2**32))
def test_a_dry_pane_is_the_identity(gt, seed):
    assert np.array_equal(Raindrops(coverage=(0, 0))(gt, np.random.default_rng(seed)), gt)


def test_a_flipped_photo_is_as_good_as_a_copy():
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    flipped = photo[::-1, ::-1]
    assert np.array_equal(
        DENSE(flipped, np.random.default_rng(1)),
        DENSE(flipped.copy(), np.random.default_rng(1)),
    )


def test_drops_show_nothing_new_in_an_even_scene_but_their_rims():
    grey = np.full((160, 160, 3), 0.5, np.float32)
    drops = Raindrops(coverage=(0.3, 0.3), radius_px=(10, 20), rim=(0, 0))
    flat = drops(grey, np.random.default_rng(0))
    assert flat == pytest.approx(0.5, abs=1e-5)
    lit = replace(drops, rim=(0.4, 0.4))(grey, np.random.default_rng(0))
    assert 0.3 - 1e-5 <= lit.min() < 0.4
    assert 0.6 < lit.max() <= 0.7 + 1e-5


def test_outside_the_drops_the_scene_is_untouched():
    drops = Raindrops(coverage=(0.1, 0.1))
    gt = np.random.default_rng(0).random((128, 128, 3), dtype=np.float32)
    changed = (drops(gt, np.random.default_rng(2)) != gt).any(axis=2).mean()
    assert 0.02 < changed < 0.3


def test_a_drop_shows_the_scene_upside_down():
    size, middle = 160, 79.5
    mask = np.zeros((size, size), np.float32)
    pixels = np.array([70 * size + 80, 90 * size + 80, 80 * size + 70, 80 * size + 90])
    pane = Pane(mask, pixels, np.zeros(4, np.int32), np.full((1, 2), middle), np.full(1, 20.0))
    across, down = np.meshgrid(*[np.linspace(0, 1, size, dtype=np.float32)] * 2)
    scene = np.stack([across, down], axis=2)
    top, bottom, left, right = pane.refract(scene, np.float32(3), np.float32(0))
    assert top[1] > 0.6 > 0.4 > bottom[1]
    assert left[0] > 0.6 > 0.4 > right[0]
    # a reduction of three, and an eighth more at half the radius
    assert (bottom[1] - top[1]) * size == pytest.approx(-20 * 3 * 1.125, rel=0.05)


def test_drops_of_a_pane_do_not_touch():
    pane = Raindrops(coverage=(1, 1)).pane((500, 500), 1.5, np.random.default_rng(0))
    # A drop that another one had drawn over would have lost pixels of its outline.
    areas = np.bincount(pane.drop, minlength=len(pane.radii))
    inside = ((pane.centres > 40) & (pane.centres < 460)).all(axis=1) & (areas > 0)
    expected = np.pi * (pane.radii + 2.5 * 1.5) ** 2
    assert np.count_nonzero(inside) > 10
    assert (areas[inside] > 0.8 * expected[inside]).all()


def test_more_coverage_is_more_water():
    wet = [
        Raindrops(coverage=(part, part)).pane((256, 256), 1, np.random.default_rng(0)).mask.mean()
        for part in (0.0, 0.05, 0.1, 0.2)
    ]
    assert wet == sorted(wet)
    assert 0 < wet[1] < 0.1


@pytest.mark.parametrize(
    "fields",
    [
        {"coverage": (0.2, 0.1)},
        {"radius_px": (0, 5)},
        {"blur_px": (0, 1)},
        {"reduction": (0.5, 2)},
        {"rim": (0, 2)},
    ],
)
def test_what_is_no_drop_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Raindrops(**fields)
