"""A photo with too little light."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.degradations.sensor_noise import PoissonGaussian
from pipelines.pixels import Pixels, like, to_float


@dataclass(frozen=True)
class LowLight:
    """lq = beta (alpha gt)^gamma, then a sensor's noise in linear light, clipped.

    alpha and beta darken all levels alike, gamma the shadows most. Source: the synthesis of Lv et
    al. 2018 (MBLLEN) and 2021 (AgLLNet). A power of 5 leaves little of a dark scene.
    """

    alpha: tuple[float, float] = (0.9, 1)
    """Lowest and highest factor before the power."""
    beta: tuple[float, float] = (0.5, 1)
    """Lowest and highest factor after the power."""
    gamma: tuple[float, float] = (1.5, 5)
    """Lowest and highest power; 1 keeps the tones."""
    noise: PoissonGaussian | None = field(default_factory=PoissonGaussian)
    """Noise of the dark photo; None for none."""

    def __post_init__(self) -> None:
        """Refuse an empty range, and a power that brightens."""
        for name, (low, high) in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"{name} {(low, high)} is not 0 < low <= high <= 1; use for example (0.9, 1)"
                )
        low, high = self.gamma
        if not 1 <= low <= high:
            raise ValueError(
                f"gamma {self.gamma} is not 1 <= low <= high; use for example (1.5, 5)"
            )

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        alpha, beta, gamma = (
            np.float32(rng.uniform(*span)) for span in (self.alpha, self.beta, self.gamma)
        )
        dark = beta * np.power(alpha * np.maximum(to_float(gt), 0), gamma)
        return like(dark if self.noise is None else self.noise(dark, rng), gt)
