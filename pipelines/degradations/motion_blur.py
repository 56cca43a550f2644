"""Motion blur of a shaken or panned camera."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.convolution import convolve
from pipelines.degradations.gaussian_noise import GaussianNoise
from pipelines.degradations.linear_light import encoded, to_linear, unclipped
from pipelines.pixels import Pixels, like

INSTANTS: Final = np.linspace(0, 1, 512)
"""The exposure; less than a pixel lies between two instants."""

MODES: Final = np.arange(1.0, 9.0)

BRIDGE: Final = np.sin(np.pi * np.outer(INSTANTS, MODES)) / MODES
"""The first modes (512, 8) of a Brownian bridge, its Karhunen-Loeve expansion."""


def straight(length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return positions (512, 2) x, y in px of a steady motion at an angle of 0 to 180 degrees."""
    angle = rng.uniform(0, np.pi)
    steps = (length - 1) * (INSTANTS - 0.5)
    return np.outer(steps, [np.cos(angle), np.sin(angle)])


def shaken(length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return positions (512, 2) x, y in px of a shaking hand: a drift and a smooth random walk.

    The path is centred at its centroid and scaled so that it reaches (length - 1) / 2 from there.
    """
    smoothness = rng.uniform(0.3, 1.5)
    drift = np.outer(INSTANTS, rng.standard_normal(2))
    path = drift + (BRIDGE * MODES**-smoothness) @ rng.standard_normal((len(MODES), 2))
    path -= path.mean(axis=0)
    reach = np.hypot(*path.T).max()
    return np.asarray(path * ((length - 1) / 2 / reach), np.float64)


def rasterise(path: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a kernel (n, n) of unit sum, n odd: equal light at each instant of a path.

    A position between pixels is shared among the four around it, so that the centroid is kept.
    """
    reach = ceil(np.abs(path).max())
    size = 2 * reach + 1
    corner = np.floor(path).astype(int)
    right, below = (path - corner).T
    column, row = corner.T + reach
    kernel = np.zeros((size + 1) ** 2)
    for across, x in ((0, 1 - right), (1, right)):
        for down, y in ((0, 1 - below), (1, below)):
            index = (row + down) * (size + 1) + column + across
            kernel += np.bincount(index, x * y, len(kernel))
    square = kernel.reshape(size + 1, size + 1)[:size, :size]
    return np.asarray(square / square.sum(), np.float32)


@dataclass(frozen=True)
class MotionBlur:
    """lq = (k * gt^2.2)^(1/2.2) + n: a kernel k in linear light, then clipped noise n.

    k is the path of a shaking hand (a smooth random walk, as in Boracchi & Foi 2012, DeblurGAN) or
    a straight line. The reference of the field, GoPro, averages frames of a fast camera: there
    things move apart from one another; here the whole picture moves alike, as with RealBlur. Whites
    regain the light that the file clipped, so that lamps leave bright traces.
    """

    length: tuple[float, float] = (5, 31)
    """Lowest and highest length, in px: that of a line, twice the reach of a path; 1 is no blur."""
    trajectory: float = 0.7
    """Probability of the path of a shaking hand instead of a straight line."""
    highlights: tuple[float, float] = (1, 2)
    """How many times brighter than the file says its whites were, lowest and highest."""
    sigma: tuple[float, float] = (0, 2)
    """Lowest and highest standard deviation of the noise, in 8-bit levels (0-255)."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.length
        if not 1 <= low <= high:
            raise ValueError(
                f"length {self.length} is not 1 <= low <= high; use for example (5, 31)"
            )
        if not 0 <= self.trajectory <= 1:
            raise ValueError(f"trajectory {self.trajectory} is outside [0, 1]; use for example 0.7")
        low, high = self.highlights
        if not 1 <= low <= high:
            raise ValueError(
                f"highlights {self.highlights} is not 1 <= low <= high; use for example (1, 2)"
            )
        GaussianNoise(self.sigma)

    @property
    def margin_px(self) -> int:
        """How many pixels of surroundings the longest kernel reaches."""
        return ceil((self.length[1] - 1) / 2)

    def kernel(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return one kernel (n, n), n odd, n <= 2 margin_px + 1, of unit sum."""
        length = rng.uniform(*self.length)
        draw = shaken if rng.random() < self.trajectory else straight
        return rasterise(draw(length, rng))

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        light = unclipped(to_linear(gt), rng.uniform(*self.highlights))
        blurred = encoded(convolve(light, self.kernel(rng)))
        noise = GaussianNoise(self.sigma, clip=True)
        return like(noise(blurred, rng), gt)
