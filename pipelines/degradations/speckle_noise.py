"""Multiplicative noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.degradations.normal import standard_normal
from pipelines.pixels import Pixels, like, to_float


@dataclass(frozen=True)
class SpeckleNoise:
    """lq = gt + gt n, n ~ N(0, sigma^2), clipped; sigma ~ U(low, high) for each sample.

    Black stays black. Source: BSRGAN (Zhang et al. 2021), whose range of sigma this is.
    """

    sigma: tuple[float, float] = (2, 25)
    """Lowest and highest standard deviation at full range, in 8-bit levels (0-255)."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.sigma
        if not 0 <= low <= high:
            raise ValueError(f"sigma {self.sigma} is not 0 <= low <= high; use for example (2, 25)")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt, clipped."""
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        height, width, channels = gt.shape
        gain = 1 + sigma * standard_normal(rng, (height, width, channels))
        return like(np.clip(to_float(gt) * gain, 0, 1), gt)
