"""Motion blur: its kernels, the light it keeps, the direction of its streaks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.degradations import motion_blur
from pipelines.degradations.linear_light import to_linear
from pipelines.degradations.motion_blur import MotionBlur, rasterise
from tests.pictures import photos, seeds


@settings(max_examples=50, deadline=None)
@given(photos, seeds)
def test_one_pixel_of_length_without_noise_is_the_identity(gt, seed):
    lq = MotionBlur(length=(1, 1), highlights=(1, 1), sigma=(0, 0))(gt, np.random.default_rng(seed))
    assert lq == pytest.approx(gt, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(seeds, st.floats(1, 60), st.sampled_from([0, 1]))
def test_a_kernel_has_unit_sum_its_centroid_in_the_middle_and_stays_in_the_margin(
    seed, length, trajectory
):
    blur = MotionBlur(length=(length, length), trajectory=trajectory)
    kernel = blur.kernel(np.random.default_rng(seed))
    assert kernel.min() >= 0
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    reach = len(kernel) // 2
    assert reach <= blur.margin_px
    away = np.arange(-reach, reach + 1)
    assert kernel.sum(axis=0) @ away == pytest.approx(0, abs=1e-3)
    assert kernel.sum(axis=1) @ away == pytest.approx(0, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(seeds, st.floats(3, 60), st.sampled_from([motion_blur.straight, motion_blur.shaken]))
def test_a_path_reaches_half_its_length_from_its_centroid(seed, length, draw):
    path = draw(length, np.random.default_rng(seed))
    assert path.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert np.hypot(*path.T).max() == pytest.approx((length - 1) / 2)


def test_a_path_between_pixels_is_shared_among_its_neighbours():
    still = np.array([[0.25, 0.0], [-0.25, 0.0]])
    assert rasterise(still) == pytest.approx(np.array([[0, 0, 0], [0.125, 0.75, 0.125], [0, 0, 0]]))


def test_a_horizontal_motion_draws_a_horizontal_streak(monkeypatch):
    monkeypatch.setattr(
        motion_blur, "straight", lambda *_: np.outer(np.linspace(-5, 5, 99), [1, 0])
    )
    gt = np.zeros((31, 31, 1), np.uint8)
    gt[15, 15] = 255
    lq = MotionBlur(trajectory=0, sigma=(0, 0))(gt, np.random.default_rng(0))
    rows, columns, _ = np.nonzero(lq)
    assert set(rows) == {15}
    assert set(columns) == set(range(10, 21))


def test_light_is_kept_where_levels_are_not():
    gt = np.zeros((64, 64, 1), np.uint16)
    gt[24:40, 24:40] = 60000
    lq = MotionBlur(sigma=(0, 0))(gt, np.random.default_rng(1))
    assert to_linear(lq).mean() == pytest.approx(to_linear(gt).mean(), rel=1e-3)
    assert lq.mean() > 1.02 * gt.mean()


def test_whites_that_the_file_clipped_leave_brighter_traces():
    gt = np.zeros((33, 33, 1), np.uint8)
    gt[16, 16] = 255
    means = [
        MotionBlur(highlights=(gain, gain), sigma=(0, 0))(gt, np.random.default_rng(2)).mean()
        for gain in (1, 4)
    ]
    assert means[1] > 1.5 * means[0]


def test_nothing_beyond_the_margin_enters_the_trimmed_crop():
    gt = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    blur = MotionBlur(sigma=(0, 0))
    margin = blur.margin_px
    whole = blur(gt, np.random.default_rng(7))
    other = gt.copy()
    other[:9] = other[-9:] = 0
    cut = blur(gt[9:-9, 9:-9], np.random.default_rng(7))
    inside = slice(9 + margin, -9 - margin)
    assert np.array_equal(cut[margin:-margin, margin:-margin], whole[inside, inside])
    assert np.array_equal(blur(other, np.random.default_rng(7))[inside], whole[inside])


def test_the_noise_is_of_its_strength_and_clipped():
    gt = np.full((128, 128, 3), 128, np.uint8)
    lq = MotionBlur(sigma=(4, 4))(gt, np.random.default_rng(0))
    assert lq.astype(float).std() == pytest.approx(4, rel=0.03)
    floats = MotionBlur(sigma=(50, 50))(np.ones((9, 9, 3), np.float32), np.random.default_rng(0))
    assert floats.max() == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"length": (9, 5)}, r"length \(9, 5\) is not 1 <= low <= high; use for example"),
        ({"length": (0, 5)}, r"length \(0, 5\) is not 1 <= low"),
        ({"trajectory": 1.5}, r"trajectory 1.5 is outside \[0, 1\]; use for example"),
        ({"highlights": (0.5, 1)}, r"highlights \(0.5, 1\) is not 1 <= low <= high"),
        ({"sigma": (3, 1)}, r"sigma \(3, 1\) is not"),
    ],
)
def test_bad_ranges_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        MotionBlur(**bad)
