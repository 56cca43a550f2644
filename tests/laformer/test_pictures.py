"""What is shown of a validated image."""

import numpy as np
import pytest

from laformer.loop import Validated
from laformer.pictures import PICTURE_PX, side_by_side


def validated(height, width, scale=1, channels=3):
    gt = np.zeros((height, width, channels), np.uint8)
    gt[height // 2, width // 2] = 255
    lq = gt[::scale, ::scale]
    return Validated("a", lq, gt.copy(), gt, 20.0)


def test_a_small_image_is_shown_whole():
    picture = side_by_side(validated(40, 24))
    assert picture.shape == (40, 72, 3)
    assert np.array_equal(picture[:, 24:48], picture[:, 48:])


@pytest.mark.parametrize(("scale", "channels"), [(1, 3), (4, 3), (1, 1)])
def test_of_a_large_image_the_same_centre_is_shown_three_times(scale, channels):
    picture = side_by_side(validated(1200, 1600, scale, channels))
    assert picture.shape == (PICTURE_PX, 3 * PICTURE_PX, 3)
    lq, restored, gt = np.split(picture, 3, axis=1)
    assert np.array_equal(restored, gt)
    assert gt[PICTURE_PX // 2, PICTURE_PX // 2].tolist() == [255] * 3
    assert lq[PICTURE_PX // 2, PICTURE_PX // 2].tolist() == [255] * 3
