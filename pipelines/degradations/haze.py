"""Haze and fog."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.degradations.fields import scene_depth
from pipelines.degradations.ranges import check_parts, check_ranges
from pipelines.pixels import Pixels, like, to_float


@dataclass(frozen=True)
class Haze:
    """lq = gt t + A (1 - t), t = exp(-beta d): the light of the scene fades, that of the air grows.

    The depth d in [0, 1] is made up (`scene_depth`): a smooth field, so that haze does not follow
    the outlines of things as it does in a photo. Source: Koschmieder's law; the ranges are those
    of RESIDE (Li et al. 2019), whose depth is estimated.
    """

    airlight: tuple[float, float] = (0.7, 1.0)
    """Lowest and highest light of the air, A, in units of the full range."""
    beta: tuple[float, float] = (0.6, 1.8)
    """Lowest and highest scattering, per unit of depth; 0 is clear air."""
    cast: float = 0.03
    """Most that A of red exceeds A of green, and blue falls short, or the reverse: warm or cool."""

    def __post_init__(self) -> None:
        """Refuse ranges that are empty or no light."""
        check_ranges(self, airlight=(0, 1), beta=(0, 100))
        check_parts(self, "cast")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        height, width, channels = gt.shape
        beta = np.float32(rng.uniform(*self.beta))
        grey = rng.uniform(*self.airlight)
        warmth = rng.uniform(-self.cast, self.cast)
        cast = np.linspace(warmth, -warmth, channels) if channels > 1 else np.zeros(1)
        airlight = np.clip(grey + cast, 0, 1).astype(np.float32)
        veil = -np.expm1(-beta * scene_depth((height, width), rng))
        hazy = to_float(gt)
        for channel, level in enumerate(airlight):
            plane = hazy[..., channel]
            plane += (level - plane) * veil
        return like(hazy, gt)
