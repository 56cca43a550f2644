"""Pixels as a degradation sees them: the levels of a file, or float32 in units of the full range.

The dtype tells the range: uint8 is 0 to 255, uint16 is 0 to 65535, float32 is 0 to 1.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[Any]
"""(H, W, C) RGB or grey: uint8 or uint16 as stored, float32 between the steps of a `Chain`."""

Degraded: TypeAlias = NDArray[Any]
"""As `Pixels`; float16 is in units of the full range, and may leave [0, 1]."""

Degrade: TypeAlias = Callable[[Pixels, np.random.Generator], Degraded]
"""A degradation: (gt, rng) -> lq.

The input stays untouched; the same generator state gives the same bytes; the dtype is kept, but
for noise that must not be clipped (float16). Integers are rounded and clipped once, at the end;
float32 is neither. Two facts stand on the value where they are not the usual: `scale`, how many
times lq is smaller than gt on each side (1), and `margin_px`, from how far around a crop pixels
reach into it (0). `scale` divides `margin_px` and both sides of gt.
"""


def scale_of(degrade: Degrade) -> int:
    """Return how many times lq is smaller than gt on each side."""
    return int(getattr(degrade, "scale", 1))


def margin_of(degrade: Degrade) -> int:
    """Return from how many pixels around a crop its lq is made."""
    return int(getattr(degrade, "margin_px", 0))


def to_float(pixels: Pixels) -> NDArray[np.float32]:
    """Return a float32 copy in units of the full range."""
    if pixels.dtype == np.float32:
        return np.array(pixels, np.float32)
    scaled: NDArray[np.float32] = pixels * np.float32(1 / np.iinfo(pixels.dtype).max)
    return scaled


def like(values: NDArray[np.float32], gt: Pixels) -> Any:
    """Return float32 `values` in the dtype of `gt`: integers rounded and clipped, floats not.

    Values are finite and below 30,000 times the range, where OpenCV's integers end.
    """
    if gt.dtype == np.float32:
        return values
    height, width, channels = values.shape
    peak, depth = _LEVELS[gt.dtype.char]
    # One pass that scales, rounds and saturates; rows of samples, for OpenCV treats the channels
    # of a colour image as different from one another.
    rows = np.ascontiguousarray(values).reshape(height, width * channels)
    levels = cv2.multiply(rows, peak, dtype=depth)
    return levels.reshape(height, width, channels)


def to_eight_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the nearest levels of 8 bits; uint8 is returned as it is."""
    levels: NDArray[np.uint8] = (
        pixels if pixels.dtype == np.uint8 else like(to_float(pixels), _EIGHT_BITS)
    )
    return levels


_EIGHT_BITS: Final = np.empty(0, np.uint8)
_LEVELS: Final[dict[str, tuple[Any, int]]] = {
    "B": (255.0, cv2.CV_8U),
    "H": (65535.0, cv2.CV_16U),
    "e": (1.0, cv2.CV_16F),
}
"""What 1 is in uint8, uint16 and float16, and the name OpenCV has for them."""
