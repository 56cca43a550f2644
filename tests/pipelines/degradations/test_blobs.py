"""Outlines: where they lie, how far they depart from circles."""

import cv2
import numpy as np
import pytest

from pipelines.degradations.blobs import SHIFT, blob_outlines, fixed_point


def test_outlines_lie_around_their_centres_and_differ():
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(0, 100, (50, 2)), rng.uniform(2, 30, 50)
    corners = blob_outlines(centres, radii, 0.2, 12, rng)
    reach = np.linalg.norm(corners - centres[:, None], axis=2) / radii[:, None]
    assert reach.min() >= 1 - 0.2 * 1.75
    assert reach.max() <= 1 + 0.2 * 1.75
    assert reach.mean() == pytest.approx(1, abs=0.01)
    assert np.unique(reach.round(3), axis=0).shape[0] == 50


def test_no_wobble_is_a_circle_of_the_radius():
    rng = np.random.default_rng(0)
    outline = fixed_point(blob_outlines(np.array([[20.0, 24.0]]), np.array([15.0]), 0, 40, rng))[0]
    drawn = np.zeros((48, 40), np.uint8)
    cv2.fillPoly(drawn, [outline], 255, cv2.LINE_AA, SHIFT)
    # OpenCV draws a filled polygon with its outline, half a pixel wider.
    assert drawn.sum() / 255 == pytest.approx(np.pi * 15.5**2, rel=0.02)
    rows, columns = np.nonzero(drawn > 128)
    assert (columns.mean(), rows.mean()) == pytest.approx((20, 24), abs=0.2)
