"""Poisson noise of the practical degradation model."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pixels import Pixels, like, to_eight_bit, to_float


def poisson(levels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return Poisson(x v) / v - x of x = levels / 255, v = 2^ceil(log2(number of levels used))."""
    num_levels = np.count_nonzero(np.bincount(levels.ravel()))
    peak = 2 ** np.ceil(np.log2(num_levels))
    means = np.arange(256) / 255
    drawn = rng.poisson(peak * means[levels]) / peak
    return np.asarray(drawn - means[levels], np.float32)


@dataclass(frozen=True)
class PoissonNoise:
    """lq = gt + strength (Poisson(x v) / v - x), clipped; strength ~ U(low, high) for each sample.

    x is gt in 8-bit levels, v the number of levels that occur, raised to a power of two: a photo of
    256 levels has up to 256 photons a pixel. Grey noise is that of the grey image, the same in
    every channel. Source: Real-ESRGAN (Wang et al. 2021).
    """

    strength: tuple[float, float] = (0.05, 3)
    """Lowest and highest factor of the noise; 1 is that of v photons at full range."""
    grey: float = 0.4
    """Probability that a sample has the same noise in every channel."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.strength
        if not 0 <= low <= high:
            raise ValueError(
                f"strength {self.strength} is not 0 <= low <= high; use for example (0.05, 3)"
            )
        if not 0 <= self.grey <= 1:
            raise ValueError(f"grey {self.grey} is outside [0, 1]; use for example 0.4")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt, clipped."""
        strength = np.float32(rng.uniform(*self.strength))
        levels = to_eight_bit(gt)
        if rng.random() < self.grey and gt.shape[2] == 3:
            levels = np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
        return like(np.clip(to_float(gt) + strength * poisson(levels, rng), 0, 1), gt)
