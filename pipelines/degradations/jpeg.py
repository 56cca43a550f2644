"""JPEG compression."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines import images
from pipelines.pairs import Pixels


@dataclass(frozen=True)
class Jpeg:
    """lq = decode(encode(gt, quality)), quality ~ U{low, ..., high} for each sample.

    libjpeg's quantisation tables, chroma at half size (4:2:0). 16-bit gt is rounded to 8 bits
    first: JPEG holds no more. Source: DnCNN, SwinIR; the range is that of blind models.
    """

    quality: tuple[int, int]
    """Lowest and highest quality, both possible, from 1 to 100."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        low, high = self.quality
        if not 1 <= low <= high <= 100:
            raise ValueError(
                f"quality {self.quality} is not 1 <= low <= high <= 100; use for example (10, 95)"
            )

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return lq (H, W, C) uint8."""
        low, high = self.quality
        return images.recompress(images.eight_bit(gt), int(rng.integers(low, high + 1)))
