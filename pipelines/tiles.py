"""Tiles <-> bytes: a lossless code that numpy undoes row by row, and zstd faster than inflate.

A tile is taken apart into planes (green, red - green, blue - green, modulo 2**bits); of each row
but the first, the row above is subtracted, so that adding rows to rows undoes it; the planes, one
after the other, are one zstd frame. Differences of 16 bits are two planes of bytes, low and high,
with 128 added so that a small negative one has the same high byte as a small positive one.
"""

import itertools
import math
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.images import Samples

LEVEL: Final = 1
"""Of zstd. Higher levels search for repeats, which photos lack, and take longer to undo."""

Planes = npt.NDArray[Any]
"""(h, C, w) uint8 or uint16: green, red - green, blue - green, or grey."""

_MIDDLE: Final = 128


def encode(pixels: Samples) -> bytes:
    """Return the bytes of a tile (h, w, C), C = 1 or 3."""
    planes = pixels.transpose(0, 2, 1).copy()
    if pixels.shape[2] == 3:
        red, green, blue = (planes[:, channel] for channel in range(3))
        planes = np.stack((green, red - green, blue - green), axis=1)
    planes[1:] -= planes[:-1].copy()
    if planes.dtype == np.uint16:
        planes += np.uint16(_MIDDLE)
    frame = np.ascontiguousarray(_bytes_of(planes).transpose(1, 3, 0, 2))
    return bytes(pa.Codec("zstd", LEVEL).compress(frame, asbytes=True))


def decode(tiles: list[Any], widths: list[int], out: Planes) -> None:
    """Write tiles of equal height side by side into `out`, as wide as `widths` together.

    What numpy does costs much the same for one tile as for several. The bytes are trusted.
    """
    height, channels, _ = out.shape
    codec, columns = pa.Codec("zstd"), _bytes_of(out)
    edges = itertools.pairwise(itertools.accumulate(widths, initial=0))
    for tile, (left, right) in zip(tiles, edges, strict=True):
        shape = (channels, out.itemsize, height, right - left)
        frame = np.frombuffer(codec.decompress(tile, math.prod(shape)), np.uint8)
        # Byte by byte, for numpy would take two bytes for its inner loop.
        for byte, planes in enumerate(frame.reshape(shape).transpose(1, 2, 0, 3)):
            columns[:, :, left:right, byte] = planes
    if out.dtype == np.uint16:
        out -= np.uint16(_MIDDLE)
    for above, row in itertools.pairwise(out):
        np.add(above, row, row)


def interleave(planes: Planes, out: Samples) -> None:
    """Write the pixels (h, w, C) of planes (C, h, w), which are used up, into `out`."""
    if len(planes) == 1:
        out[:, :, 0] = planes[0]
        return
    planes[1:] += planes[0]
    cv2.merge((planes[1], planes[0], planes[2]), dst=out)


def _bytes_of(planes: Planes) -> npt.NDArray[np.uint8]:
    """Return a view (h, C, w, bytes of a sample) of contiguous planes."""
    return planes.view(np.uint8).reshape(*planes.shape, planes.itemsize)
