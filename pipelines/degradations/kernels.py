"""Small kernels, and what a photo is under them."""

from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pixels import Pixels, like, to_float

Kernel: TypeAlias = NDArray[np.float32]
"""(side, side) float32, side odd, of sum 1."""

BORDER: Final = cv2.BORDER_REFLECT_101


def check_side(side_px: tuple[int, int]) -> None:
    """Refuse a range of sides that is empty or not odd."""
    low, high = side_px
    if not (1 <= low <= high and low % 2 == high % 2 == 1):
        raise ValueError(
            f"side_px {side_px} is not 1 <= low <= high, both odd; use for example (7, 21)"
        )


def draw_side(side_px: tuple[int, int], rng: np.random.Generator) -> int:
    """Return an odd side, each of the range equally often."""
    low, high = side_px
    return int(low + 2 * rng.integers((high - low) // 2 + 1))


def blurred(gt: Pixels, kernel: Kernel) -> Any:
    """Return gt under a kernel, borders reflected, in the dtype of gt."""
    filtered: Any
    rows, columns = kernel.sum(axis=1), kernel.sum(axis=0)
    # An isotropic Gaussian is the product of its profiles: 2 x 21 products for 21 x 21.
    if np.abs(kernel - np.outer(rows, columns)).max() < 1e-7:
        filtered = cv2.sepFilter2D(to_float(gt), -1, columns, rows, borderType=BORDER)
    else:
        filtered = cv2.filter2D(to_float(gt), -1, kernel, borderType=BORDER)
    return like(filtered.reshape(gt.shape), gt)


def normalised(values: NDArray[np.float64]) -> Kernel:
    """Return a kernel of sum 1."""
    kernel: Kernel = (values / values.sum()).astype(np.float32)
    return kernel
