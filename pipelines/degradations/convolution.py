"""Convolution with kernels of any size, faster than one `cv2.filter2D` where they are wide."""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

DIRECT_AREA: Final = 120
"""Up to this kernel area `cv2.filter2D` sums float32 directly; above, it takes the Fourier
transform, several times as long for the few taps of a motion kernel at 256 x 256."""

DIRECT_TAPS: Final = 500
"""Non-zero taps from which on the Fourier transform is the faster one (a disk of radius 12)."""


def convolve(values: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values (H, W, C) convolved with an odd-sized kernel; the border is reflected.

    The kernel is applied in strips of rows, each small enough for OpenCV's direct sum, which skips
    zero taps; a strip of zeros costs nothing.
    """
    height, width, channels = values.shape
    # filter2D correlates.
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    num_taps, (num_rows, num_columns) = np.count_nonzero(flipped), flipped.shape
    strip_rows = num_rows if num_taps > DIRECT_TAPS else max(1, DIRECT_AREA // num_columns)
    reach_y, reach_x = num_rows // 2, num_columns // 2
    padded: Any = cv2.copyMakeBorder(values, reach_y, reach_y, 0, 0, cv2.BORDER_REFLECT_101)
    total: Any = None
    for top in range(0, num_rows, strip_rows):
        strip = flipped[top : top + strip_rows]
        if strip.any():
            rows = padded[top : top + height + len(strip) - 1]
            summed: Any = cv2.filter2D(
                rows, -1, strip, anchor=(reach_x, 0), borderType=cv2.BORDER_REFLECT_101
            )[:height]
            total = summed if total is None else np.add(total, summed, out=total)
    return np.asarray(total, np.float32).reshape(height, width, channels)
