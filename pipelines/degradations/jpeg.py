"""JPEG compression."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines import images
from pipelines.pixels import Pixels, like, to_eight_bit, to_float


@dataclass(frozen=True)
class Jpeg:
    """lq = decode(encode(gt, quality)), quality ~ U{low, ..., high} for each sample.

    libjpeg's quantisation tables, chroma at half size (4:2:0). Other gt than 8-bit is rounded to 8
    bits first, for JPEG holds no more, and brought back to its range. Source: DnCNN, SwinIR; the
    range is that of blind models.
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

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        low, high = self.quality
        quality = int(rng.integers(low, high + 1))
        levels = to_eight_bit(gt)
        lq = images.recompress(levels, quality)
        return lq if gt.dtype == np.uint8 else like(to_float(lq), gt)
