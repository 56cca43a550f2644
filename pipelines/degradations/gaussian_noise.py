"""Additive white Gaussian noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.pairs import Pixels


@dataclass(frozen=True)
class GaussianNoise:
    """lq = gt + n, n ~ N(0, sigma^2), sigma ~ U(low, high) for each sample.

    The sum is neither clipped nor rounded to 8 bits: that is what the benchmarks add (DnCNN,
    FFDNet and after), and clipping would change the task. It travels as float16, whose step
    within [0, 1] is at most 1/8 of an 8-bit level.
    """

    sigma: tuple[float, float]
    """Lowest and highest standard deviation, in 8-bit levels (0-255)."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.sigma
        if not 0 <= low <= high:
            raise ValueError(f"sigma {self.sigma} is not 0 <= low <= high; use for example (0, 50)")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> NDArray[np.float16]:
        """Return lq (H, W, C) float16 in units of the full range of gt; may leave [0, 1]."""
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        noise = rng.standard_normal(gt.shape, dtype=np.float32)
        scale = np.float32(1 / np.iinfo(gt.dtype).max)
        return (gt * scale + noise * sigma).astype(np.float16)
