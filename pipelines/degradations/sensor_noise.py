"""Noise of a camera's sensor."""

from dataclasses import dataclass
from math import exp
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.linear_light import from_linear, to_linear
from pipelines.degradations.normal import standard_normal
from pipelines.pixels import Pixels

BAYER: Final = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 1]]], np.float32)
"""Which colour each of four pixels (2, 2, 3) measures: red, green; green, blue."""

_ACROSS: Final = np.array([[0.5], [1], [0.5]], np.float32)
_CROSS: Final = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], np.float32)
BILINEAR: Final = (_ACROSS @ _ACROSS.T, _CROSS, _ACROSS @ _ACROSS.T)
"""How red, green and blue are interpolated from the pixels that measure them."""


def demosaiced(noise: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise (H, W, 3) as left by a sensor that measures one colour per pixel.

    The missing two are interpolated bilinearly from the neighbours, and so is their noise: coarser
    and weaker in red and blue than in green. The pattern begins with any of its four pixels.
    """
    height, width, _ = noise.shape
    pattern = np.roll(BAYER, rng.integers(0, 2, size=2), axis=(0, 1))
    measured = noise * np.tile(pattern, (height // 2 + 1, width // 2 + 1, 1))[:height, :width]
    planes: Any = [
        # The border reflected about its pixels continues the pattern.
        cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        for plane, kernel in zip(cv2.split(measured), BILINEAR, strict=True)
    ]
    return np.stack(planes, axis=2)


@dataclass(frozen=True)
class PoissonGaussian:
    """lq = (x + n)^(1/2.2), clipped, x = gt^2.2, n ~ N(0, shot x + read): photons and electronics.

    log shot ~ U(log low, log high), log read ~ N(2.18 log shot + 1.2, 0.26^2), both variances in
    units of full linear light: the cameras of the Darmstadt dataset, from low ISO to high. Source:
    Brooks et al. 2019 ("Unprocessing images"), who add it before white balance and colour matrix.
    """

    shot: tuple[float, float] = (1e-4, 0.012)
    """Lowest and highest variance of the photons' noise at full linear light, above 0."""
    demosaic: float = 0.5
    """Probability that the noise of a colour sample passes through a Bayer pattern."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.shot
        if not 0 < low <= high:
            raise ValueError(
                f"shot {self.shot} is not 0 < low <= high; use for example (1e-4, 0.012)"
            )
        if not 0 <= self.demosaic <= 1:
            raise ValueError(f"demosaic {self.demosaic} is outside [0, 1]; use for example 0.5")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt, clipped."""
        light = to_linear(gt)
        log_shot = rng.uniform(*np.log(self.shot))
        read = np.float32(exp(rng.normal(2.18 * log_shot + 1.2, 0.26)))
        deviation = np.sqrt(np.float32(exp(log_shot)) * light + read)
        if gt.shape[2] == 3 and rng.random() < self.demosaic:
            # Each pixel measures once, so one draw serves its three channels.
            drawn = standard_normal(rng, (*gt.shape[:2], 1))
            noise = demosaiced(deviation * drawn, rng)
        else:
            noise = deviation * standard_normal(rng, (*gt.shape[:2], gt.shape[2]))
        return from_linear(light + noise, gt)
