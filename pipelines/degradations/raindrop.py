"""Raindrops on the lens or on a window before it."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.blobs import SHIFT, blob_outlines, fixed_point
from pipelines.degradations.fields import Plane
from pipelines.degradations.ranges import check_ranges
from pipelines.pixels import Pixels, like, to_float

Floats: TypeAlias = NDArray[np.float32]

COARSE: Final = 8
"""What a drop shows is read from a photo this many times smaller: a drop is out of focus."""

WOBBLE: Final = 0.2
"""How far outlines depart from circles, as a part of the radius."""

CORNERS: Final = 20
"""Corners of an outline: between them, the largest drop departs from a circle by 0.3 pixels."""

ROW: Final = 1024
"""Scattered pixels are looked up in rows of this many, for OpenCV wants an image."""


@dataclass(frozen=True)
class Raindrops:
    """lq = (1 - M) gt + M D: drops M through which the scene D looks small, upside down, blurred.

    A drop is a lens: a pixel at p in a drop around c shows gt at c - s (p - c), where s, the
    reduction, grows towards the rim as in a fish-eye. The rim is darker above and brighter below,
    where a drop shows the sky. All drops of a sample lie on one pane, thus out of focus alike.
    Source: Qian et al. 2018 (Raindrop) for the equation; Roser and Geiger 2009 for the lens, here
    without ray tracing.
    """

    coverage: tuple[float, float] = (0.05, 0.3)
    """Lowest and highest area of the drops that fall, as a part of the image; those that would
    touch a larger one run into it."""
    radius_px: tuple[float, float] = (3, 26)
    """Radius of the smallest and the largest drop; small ones are more frequent."""
    blur_px: tuple[float, float] = (0.8, 2.0)
    """Lowest and highest standard deviation of the edges."""
    reduction: tuple[float, float] = (2.5, 5.0)
    """Lowest and highest factor by which the scene is smaller in the middle of a drop."""
    rim: tuple[float, float] = (0.15, 0.5)
    """Least and most that the light of the rim departs from that of the drop, as a part of it."""

    def __post_init__(self) -> None:
        """Refuse what is empty or no drop."""
        check_ranges(self, coverage=(0, 1), radius_px=(1, 1000), blur_px=(0.1, 100))
        check_ranges(self, reduction=(1, 100), rim=(0, 1))

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        height, width, channels = gt.shape
        blur_px = rng.uniform(*self.blur_px)
        pane = self.pane((height, width), blur_px, rng)
        reduction, rim = rng.uniform(*self.reduction), rng.uniform(*self.rim)
        wet = np.ascontiguousarray(to_float(gt))
        shown = pane.refract(wet, np.float32(reduction), np.float32(rim))
        mask = cv2.GaussianBlur(pane.mask, (0, 0), blur_px).ravel()[pane.pixels, None]
        # Rows in order, whatever those of gt: a view, so that what it gains is seen in `wet`.
        flat = wet.reshape(height * width, channels)
        flat[pane.pixels] += mask * (shown - flat[pane.pixels])
        return like(wet, gt)

    def pane(self, size: tuple[int, int], blur_px: float, rng: np.random.Generator) -> "Pane":
        """Return a pane (H, W) with drops anywhere on it, and room for blurred edges."""
        height, width = size
        low, high = np.log(self.radius_px)
        area = np.pi * np.mean(np.exp(2 * np.linspace(low, high, 64)))
        number = rng.poisson(rng.uniform(*self.coverage) * height * width / area)
        radii = np.sort(np.exp(rng.uniform(low, high, number)))[::-1]
        centres = rng.uniform(0, (width, height), (number, 2)) - 0.5
        corners = blob_outlines(centres, radii, WOBBLE, CORNERS, rng)
        mask, owner = np.zeros(size, np.uint8), np.zeros(size, np.int32)
        # A blurred edge has faded to less than 1 % at two and a half standard deviations.
        reach = 1 + 2.5 * blur_px / radii[:, None, None]
        outlines = fixed_point(centres[:, None] + (corners - centres[:, None]) * reach)
        lows = np.maximum(outlines.min(axis=1) >> SHIFT, 0)
        highs = (outlines.max(axis=1) >> SHIFT) + 1
        for drop, (drawn, (x, y), (right, bottom)) in enumerate(
            zip(fixed_point(corners), lows, highs, strict=True)
        ):
            if not owner[y:bottom, x:right].any():
                cv2.fillPoly(owner, [outlines[drop]], drop + 1, cv2.LINE_8, SHIFT)
                cv2.fillPoly(mask, [drawn], 255, cv2.LINE_AA, SHIFT)
        pixels = np.flatnonzero(owner)
        return Pane(to_float(mask), pixels, owner.ravel()[pixels] - 1, centres, radii)


@dataclass(frozen=True)
class Pane:
    """A pane with drops on it, none of which touch."""

    mask: Plane
    """(H, W): 1 within drops, 0 outside, in between at the edges."""
    pixels: NDArray[np.int64]
    """(P,): places, row by row, of all pixels in a drop or in reach of its blurred edge."""
    drop: NDArray[np.int32]
    """(P,): which drop."""
    centres: NDArray[np.float64]
    """(N, 2): x and y in pixels."""
    radii: NDArray[np.float64]
    """(N,) in pixels."""

    def refract(self, scene: Floats, reduction: np.float32, rim: np.float32) -> Floats:
        """Return what the drops show of `scene` (H, W, C) at their pixels: (P, C).

        A pixel near the middle is seen `reduction` times as far from the centre and across it; one
        at the rim, half as far again. The light rises by `rim` at the lowest point and falls by as
        much at the highest.
        """
        height, width, channels = scene.shape
        centre_x, centre_y = self.centres.T.astype(np.float32)[:, self.drop]
        x = (self.pixels % width).astype(np.float32) - centre_x
        y = (self.pixels // width).astype(np.float32) - centre_y
        radius = self.radii.astype(np.float32)[self.drop]
        rise = np.minimum((x * x + y * y) / (radius * radius), 1)
        scale = -reduction * (1 + rise / 2)
        coarse = max(1, width // COARSE), max(1, height // COARSE)
        small = cv2.resize(scene, coarse, interpolation=cv2.INTER_AREA)
        seen_x = (centre_x + scale * x + 0.5) * np.float32(coarse[0] / width) - 0.5
        seen_y = (centre_y + scale * y + 0.5) * np.float32(coarse[1] / height) - 0.5
        rows = len(x) // ROW + 1
        shown = cv2.remap(
            small,
            np.resize(seen_x, (rows, ROW)),
            np.resize(seen_y, (rows, ROW)),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        light = 1 + rim * rise * y / radius
        lit: Floats = shown.reshape(rows * ROW, channels)[: len(x)] * light[:, None]
        return lit
