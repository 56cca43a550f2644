"""Additive white Gaussian noise."""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.normal import standard_normal
from pipelines.pixels import Pixels, like, to_float

HALF: Final = np.empty(0, np.float16)


@dataclass(frozen=True)
class GaussianNoise:
    """lq = gt + n, n ~ N(0, sigma^2), sigma ~ U(low, high) for each sample.

    The sum is neither clipped nor rounded to 8 bits: that is what the benchmarks add (DnCNN,
    FFDNet and after), and clipping would change the task. It travels as float16, whose step
    within [0, 1] is at most 1/8 of an 8-bit level. With `clip` it is what a file would hold.
    """

    sigma: tuple[float, float]
    """Lowest and highest standard deviation, in 8-bit levels (0-255)."""
    grey: float = 0.0
    """Probability that a sample has the same noise in every channel (Real-ESRGAN: 0.4)."""
    clip: bool = False
    """Whether the sum is clipped to the range and keeps the dtype of gt."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.sigma
        if not 0 <= low <= high:
            raise ValueError(f"sigma {self.sigma} is not 0 <= low <= high; use for example (0, 50)")
        if not 0 <= self.grey <= 1:
            raise ValueError(f"grey {self.grey} is outside [0, 1]; use for example 0.4")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) float16 in units of the full range of gt; may leave [0, 1].

        With `clip`, and for float32 between the steps of a chain, in the dtype of gt.
        """
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        grey = self.grey > 0 and rng.random() < self.grey
        height, width, channels = gt.shape
        shape = (height, width, 1 if grey else channels)
        noise = standard_normal(rng, shape)
        if not (self.clip or grey or gt.dtype == np.float32):
            return added(noise, float(sigma), gt)
        noise *= sigma
        noisy = noise + to_float(gt)
        if self.clip:
            return like(np.clip(noisy, 0, 1), gt)
        return noisy if gt.dtype == np.float32 else like(noisy, HALF)


def added(noise: NDArray[np.float32], sigma: float, gt: Pixels) -> Any:
    """Return sigma * noise + gt / peak as float16: one pass, where numpy takes four."""
    flat = gt.shape[0], -1  # OpenCV treats the channels of a colour image as different
    parts = noise.reshape(flat), sigma, gt.reshape(flat), 1 / np.iinfo(gt.dtype).max
    return cv2.addWeighted(*parts, 0, dtype=cv2.CV_16F).reshape(gt.shape)
