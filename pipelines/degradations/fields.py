"""Smooth random fields: how far a scene is, how thick its fog."""

from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.float32]
"""(H, W) float32: one value per pixel, whatever the channels."""

GRIDS: Final = (3, 5, 9, 17)
"""Cells per side of each octave; an octave weighs half as much as the one before."""

COARSE_SIDE: Final = 33
"""Octaves are summed at this size: the finest has two samples per cell, and it costs nothing."""


def smooth_field(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return a smooth field (H, W) that spans [0, 1]; its hills scale with the image.

    Value noise: grids of uniform numbers, each enlarged by cubic interpolation, summed by octaves.
    A field of one pixel is a uniform number.
    """
    total = np.zeros((COARSE_SIDE, COARSE_SIDE), np.float32)
    for octave, cells in enumerate(GRIDS):
        grid = rng.random((cells, cells), dtype=np.float32)
        coarse = cv2.resize(grid, (COARSE_SIDE, COARSE_SIDE), interpolation=cv2.INTER_CUBIC)
        total += coarse * np.float32(0.5**octave)
    if size == (1, 1):
        return rng.random(size, dtype=np.float32)
    field = cv2.resize(total, size[::-1], interpolation=cv2.INTER_CUBIC)
    return stretched(np.asarray(field, np.float32))


def scene_depth(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return a made-up depth (H, W) in [0, 1], farther towards the top, as outdoors.

    A ground that recedes, tilted to either side, and a smooth field upon it. A crop sees a part of
    a scene: the depth spans 0.3 to 1 of the range, anywhere in it.
    """
    height, width = size
    ground = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    side = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(rng.uniform(-0.6, 0.6))
    relief = np.float32(rng.uniform(0.3, 1.0))
    depth = stretched(ground + side + relief * smooth_field(size, rng))
    span = rng.uniform(0.3, 1.0)
    near = rng.uniform(0, 1 - span)
    depth *= np.float32(span)
    depth += np.float32(near)
    return depth


def stretched(values: Plane) -> Plane:
    """Return `values` moved to span [0, 1]; those that are all the same become 0."""
    low, high = float(values.min()), float(values.max())
    scaled: Plane = (values - np.float32(low)) * np.float32(1 / max(high - low, 1e-6))
    return np.minimum(scaled, np.float32(1), out=scaled)
