"""Shot noise."""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from pipelines.pixels import Pixels, like, to_float

EIGHT_BITS: Final = np.empty(0, np.uint8)


@dataclass(frozen=True)
class PoissonNoise:
    """lq = x + s (P(x v) / v - x), P Poisson's distribution, s ~ U(low, high) for each sample.

    x is gt at 8 bits and v = 2^ceil(log2 n), n the number of its distinct levels. The sum is
    clipped. Source: Real-ESRGAN (Wang et al., 2021).
    """

    strength: tuple[float, float]
    """Lowest and highest strength; at 1 the noise is that of v photons at white."""
    grey: float = 0.0
    """Probability that a sample has the same noise in every channel (Real-ESRGAN: 0.4)."""

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
        """Return lq (H, W, C) in the dtype of gt."""
        factor = np.float32(rng.uniform(*self.strength))
        values = to_float(gt)
        exposed: Any = values
        if self.grey > 0 and rng.random() < self.grey and gt.shape[2] == 3:
            exposed = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
        levels = like(exposed, EIGHT_BITS)
        num_levels = np.count_nonzero(np.bincount(levels.ravel(), minlength=256))
        photons = np.float32(2 ** np.ceil(np.log2(num_levels)))
        exposed = to_float(levels)
        counts = rng.poisson(exposed * photons).astype(np.float32)
        noise = counts / photons - exposed
        return like(np.clip(values + factor * noise, 0, 1), gt)
