"""Defocus of a lens, as one sensor or a dual-pixel sensor sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.convolution import convolve
from pipelines.degradations.fields import smooth_field
from pipelines.degradations.linear_light import from_linear, to_linear, unclipped
from pipelines.pixels import Pixels

Layers = Sequence[tuple[float, NDArray[np.float32]]]
"""Radius in px and mask (H, W, 1) of each depth; the masks sum to 1 in every pixel."""


def disk(radius: float) -> NDArray[np.float32]:
    """Return the image (n, n) of a point out of focus: an antialiased disk of unit sum, n odd."""
    reach = ceil(max(0.0, radius - 0.5))
    away = np.arange(-reach, reach + 1)
    covered = np.clip(radius + 0.5 - np.hypot(away[:, None], away), 0, 1)
    # A disk within one pixel covers a part of it, and all of its light falls there.
    return np.asarray(covered / covered.sum() if reach else [[1]], np.float32)


def half_disk(radius: float, side: Literal[-1, 1]) -> NDArray[np.float32]:
    """Return the left (-1) or right (1) half of a disk, of unit sum; both have half its middle."""
    whole = disk(radius)
    reach = len(whole) // 2
    away = np.arange(-reach, reach + 1)
    return whole * (1 + side * np.sign(away)).astype(np.float32)


def blend(
    light: NDArray[np.float32], layers: Layers, kernels: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return light (H, W, C), in the mask of each layer convolved with its kernel."""
    total = np.zeros_like(light)
    for (_, mask), kernel in zip(layers, kernels, strict=True):
        if mask.any():
            blurred = convolve(light, kernel)
            # A product that stretches the mask over the channels takes twice as long.
            whole: Any = cv2.merge([mask] * light.shape[2])
            blurred *= whole.reshape(light.shape)
            total += blurred
    return total


@dataclass(frozen=True)
class Defocus:
    """lq = (sum of m_i (d_i * gt^2.2))^(1/2.2): disks d_i in linear light, soft depth masks m_i.

    The picture has 1 to `layers` depths, cut from a smooth random field; a disk's radius is its
    depth's circle of confusion, radius ~ U(low, high). A sample has steep or gradual steps of
    depth: the layered model of a thin lens. Whites regain the light that the file clipped, so
    that lamps and glints make bright disks. The reference of the field, DPDD, is two photos at two
    apertures.
    """

    radius: tuple[float, float] = (1, 10)
    """Lowest and highest radius of a disk, in px; up to 0.5 is in focus."""
    layers: int = 3
    """Most depths of a sample, each number as probable: 1 blurs everything alike."""
    highlights: tuple[float, float] = (1, 2)
    """How many times brighter than the file says its whites were, lowest and highest."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.radius
        if not 0 <= low <= high:
            raise ValueError(
                f"radius {self.radius} is not 0 <= low <= high; use for example (1, 10)"
            )
        if self.layers < 1:
            raise ValueError(f"layers {self.layers} is below 1; use for example 3")
        low, high = self.highlights
        if not 1 <= low <= high:
            raise ValueError(
                f"highlights {self.highlights} is not 1 <= low <= high; use for example (1, 2)"
            )

    @property
    def margin_px(self) -> int:
        """How many pixels of surroundings the largest disk reaches."""
        return len(disk(self.radius[1])) // 2

    def depths(self, height: int, width: int, rng: np.random.Generator) -> Layers:
        """Return the radius and mask of each depth of a sample, from the sharpest on."""
        num = int(rng.integers(1, self.layers + 1))
        radii = np.sort(rng.uniform(*self.radius, num)).tolist()
        steepness = np.float32(rng.uniform(2, 8))
        depth = smooth_field((height, width), rng)[..., None] * np.float32(num - 1)
        behind = np.floor(depth)
        # Half to an eighth of the way between two depths is a mixture of both.
        depth = behind + np.clip((depth - behind - 0.5) * steepness + 0.5, 0, 1)
        return [(radius, np.maximum(0, 1 - np.abs(depth - i))) for i, radius in enumerate(radii)]

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        layers = self.depths(gt.shape[0], gt.shape[1], rng)
        light = unclipped(to_linear(gt), rng.uniform(*self.highlights))
        return from_linear(blend(light, layers, [disk(radius) for radius, _ in layers]), gt)


@dataclass(frozen=True)
class DualPixelDefocus(Defocus):
    """The views through the left and the right half of the lens, which a dual-pixel sensor has.

    Each is blurred as by `Defocus`, with half of each disk: the disparity of the two grows with the
    radius, and their mean, in linear light, is what `Defocus` makes of the same draws. The whole
    sample lies behind the plane in focus or, as often, before it, where the halves swap. Source:
    Abuolaim & Brown 2020 (DPDD), Punnappurath et al. 2020; real halves overlap a little.
    """

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, 2 C) in the dtype of gt: the left view, then the right one."""
        layers = self.depths(gt.shape[0], gt.shape[1], rng)
        light = unclipped(to_linear(gt), rng.uniform(*self.highlights))
        sides: tuple[Literal[-1, 1], ...] = (-1, 1) if rng.random() < 0.5 else (1, -1)
        views = [
            blend(light, layers, [half_disk(radius, side) for radius, _ in layers])
            for side in sides
        ]
        return from_linear(np.concatenate(views, axis=2), gt)
