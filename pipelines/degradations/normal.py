"""Normal numbers, many and fast: noise is most of what a training crop costs."""

from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

NUM_QUANTILES = 2**16


def standard_normal(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return float32 (H, W, C) of mean 0 and variance 1, each from 16 bits of a 64-bit generator.

    The values are the quantiles (i + 1/2) / 2^16 of the normal distribution, all as likely: its
    distribution function to 2^-17, and nothing beyond 4.33 standard deviations, where one number
    in 66,000 would lie. Several times as fast as numpy's own.
    """
    height, width, channels = shape
    num = height * width * channels
    bits = rng.bit_generator.random_raw(-(-num // 4)).view(np.uint16)[:num]
    numbers = cv2.LUT(bits.reshape(height, width * channels), quantiles())
    return np.asarray(numbers, np.float32).reshape(shape)


@lru_cache(maxsize=1)
def quantiles() -> NDArray[np.float32]:
    """Return the table, made in 20 ms, scaled to variance 1."""
    inverse = NormalDist().inv_cdf
    half = [inverse((index + 0.5) / NUM_QUANTILES) for index in range(NUM_QUANTILES // 2)]
    table = np.array(half + [-value for value in reversed(half)])
    scaled: NDArray[np.float32] = (table / table.std()).astype(np.float32)
    return scaled
