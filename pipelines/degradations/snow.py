"""Falling snow."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.blobs import SHIFT, blob_outlines, fixed_point
from pipelines.degradations.fields import Plane
from pipelines.degradations.haze import Haze
from pipelines.degradations.ranges import check_parts, check_ranges
from pipelines.pixels import Pixels, like, to_float


class Layer(NamedTuple):
    """Snow at one distance."""

    share: float
    """Part of all flakes."""
    radius_px: tuple[float, float]
    """Smallest and largest flake as drawn; OpenCV and the blur add about a pixel."""
    blur_px: float
    """Standard deviation of the edges: those near the lens are out of focus."""
    motion: float
    """How far flakes move during the exposure, beside those of the nearest layer."""


LAYERS: Final = (
    Layer(share=0.76, radius_px=(0.2, 0.7), blur_px=0.6, motion=0.3),
    Layer(share=0.2, radius_px=(0.8, 1.8), blur_px=1.0, motion=0.6),
    Layer(share=0.04, radius_px=(2.2, 5.5), blur_px=2.0, motion=1.0),
)
"""Flakes of three sizes, from far to near."""

WOBBLE: Final = 0.25
"""How far flakes depart from circles, as a part of the radius."""

CORNERS: Final = 8
"""Corners of an outline; of so few, flakes are cheap, and blur rounds them."""

VEIL: Final = Haze(airlight=(0.75, 0.95), beta=(0.3, 1.2))
"""Air full of flakes too far to be seen: brighter than mist, and hides less than fog."""


@dataclass(frozen=True)
class Snow:
    """lq = z C + (1 - z) gt: flakes of opacity z and a colour C near white, of three sizes.

    Each flake has a shape, an opacity and a drift of its own. It is drawn over its whole way
    through the exposure, as opaque as at rest, where a motion blur would make it fainter; then it
    is blurred by its distance. Snow also veils, as haze. Source: Liu et al. 2018 (DesnowNet,
    Snow100K) for the equation and the sizes; Chen et al. 2021 (CSD) for the veil.
    """

    density: tuple[float, float] = (0.002, 0.012)
    """Fewest and most flakes per pixel."""
    opacity: tuple[float, float] = (0.6, 1.0)
    """Lowest and highest opacity of a flake, before it is blurred."""
    motion_px: tuple[float, float] = (0, 12)
    """Shortest and longest way of the nearest flakes during the exposure."""
    angle: tuple[float, float] = (-50, 50)
    """Lowest and highest slant in degrees from vertical; a positive one leans like a slash."""
    white: tuple[float, float] = (0.85, 1.0)
    """Lowest and highest light of flakes, C, in units of the full range."""
    veil: float = 0.5
    """Probability that the air between the flakes veils the scene."""
    mist: Haze = VEIL
    """The veil; it lies behind the flakes."""

    def __post_init__(self) -> None:
        """Refuse what is empty or no snow."""
        check_ranges(self, density=(0, 1), opacity=(0, 1), motion_px=(0, 1000))
        check_ranges(self, angle=(-90, 90), white=(0, 1))
        check_parts(self, "veil")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        height, width, channels = gt.shape
        snowy = to_float(gt)
        if rng.random() < self.veil:
            snowy = self.mist(snowy, rng)
        white = np.float32(rng.uniform(*self.white))
        flakes = self.flakes((height, width), rng)
        for channel in range(channels):
            plane = snowy[..., channel]
            plane += flakes * (white - plane)
        return like(snowy, gt)

    def flakes(self, size: tuple[int, int], rng: np.random.Generator) -> Plane:
        """Return the opacity (H, W) of all layers, in [0, 1]."""
        density = rng.uniform(*self.density)
        angle = rng.uniform(*self.angle)
        motion_px = rng.uniform(*self.motion_px)
        clear = np.ones(size, np.float32)
        for layer in LAYERS:
            drift = Drift(angle, motion_px * layer.motion)
            clear *= 1 - self.layer(size, layer, drift, density * layer.share, rng)
        return np.subtract(1, clear, out=clear)

    def layer(
        self,
        size: tuple[int, int],
        layer: Layer,
        drift: "Drift",
        density: float,
        rng: np.random.Generator,
    ) -> Plane:
        """Return the opacity (H, W) of one layer, in [0, 1]; `density` is in flakes per pixel."""
        height, width = size
        reach = layer.radius_px[1] + drift.motion_px / 2
        number = rng.poisson(density * (height + 2 * reach) * (width + 2 * reach))
        centres = rng.uniform(-reach, (width + reach, height + reach), (number, 2))
        radii = rng.uniform(*layer.radius_px, number)
        outlines = blob_outlines(centres, radii, WOBBLE, CORNERS, rng)
        # A shape that moves sweeps what lies between its foremost half and its hindmost.
        ways = drift.ways(number, rng)
        ahead = np.einsum("ncd,nd->nc", outlines - centres[:, None], ways)
        outlines += (np.sign(ahead) / 2)[..., None] * ways[:, None]
        # So the more opaque of two flakes covers the other, as in a union.
        levels = np.sort(np.rint(255 * rng.uniform(*self.opacity, number))).tolist()
        canvas = np.zeros(size, np.uint8)
        for outline, level in zip(fixed_point(outlines), levels, strict=True):
            cv2.fillConvexPoly(canvas, outline, level, cv2.LINE_AA, SHIFT)
        flakes = to_float(canvas)
        cv2.GaussianBlur(flakes, (0, 0), layer.blur_px, dst=flakes)
        return flakes


@dataclass(frozen=True)
class Drift:
    """The way of flakes during the exposure."""

    angle: float
    """Degrees from vertical; a positive one leans like a slash."""
    motion_px: float
    """Length of the way."""

    def ways(self, number: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the way (N, 2) of each flake, x and y in pixels: they tumble as they fall."""
        angle = np.radians(self.angle + rng.normal(0, 12, number))
        length = self.motion_px * rng.uniform(0.6, 1, number)
        return np.stack([-np.sin(angle) * length, np.cos(angle) * length], axis=1)
