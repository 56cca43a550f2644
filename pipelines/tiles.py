"""Tiles <-> bytes: a lossless code that numpy undoes row by row, without inflate.

A tile is taken apart into green, or grey, and colour, which is red - green and blue - green in each
row in turn, modulo 2**bits. Both are stored in one of these forms:

- `raw`: as they are.
- `zstd`: of each row but the first the row above is subtracted, so that adding rows to rows undoes
  it; that is one frame. Differences of 16 bits are two planes of bytes, low and high, with 128
  added so that a small negative one has the same high byte as a small positive one.
- `zstd-left`, of grey: the same with the samples to the left, slow to undo, and for some photos a
  sixth smaller. Colour has bytes to spare without.
- `nibbles`, of colour of 8 bits: 8 is added to the differences of `zstd`, and the low four bits of
  the two of a pixel are one byte, red's below. What is then outside 0 to 15 follows: first the
  distance of each from the one before, then each, a byte for both.

`raw` and `nibbles` are fast, and so is, of grey, `zstd` beside `zstd-left`. Who packs an image says
how many bytes it may take, and `choose` makes as much of it fast as these allow.
"""

import itertools
import math
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.images import Samples

LEVEL: Final = 1
"""Of zstd. Higher levels search for repeats, which photos lack, and take longer to undo."""

RAW: Final = "raw"
ZSTD: Final = "zstd"
ZSTD_LEFT: Final = "zstd-left"
NIBBLES: Final = "nibbles"

Planes = npt.NDArray[Any]
"""(h, P, w) uint8 or uint16: P = 1, grey or green, or P = 2, red - green and blue - green."""

_MIDDLE: Final = 128
_MIDDLE_NIBBLE: Final = 8
_LONGEST: Final = 255


class Coded(NamedTuple):
    """The planes of a tile as they are stored."""

    form: str
    """How: `RAW`, `ZSTD`, `ZSTD_LEFT` or `NIBBLES`."""
    data: Any
    """Bytes or a buffer."""


class Choice(NamedTuple):
    """Two forms of the same planes."""

    small: Coded
    """`ZSTD` or `ZSTD_LEFT`."""
    fast: Coded
    """`RAW` or `NIBBLES`, or `ZSTD` of grey."""

    @property
    def growth(self) -> int:
        """Bytes that the fast one takes more."""
        return len(self.fast.data) - len(self.small.data)


def encode(pixels: Samples) -> list[Choice]:
    """Return the forms of grey, or of green and of colour, of a tile (h, w, C), C = 1 or 3."""
    base = np.ascontiguousarray(pixels[:, :, pixels.shape[2] // 2])
    raw = Coded(RAW, base.tobytes())
    above = _as_zstd(_differences(base[:, None]))
    if pixels.shape[2] == 1:
        left = _as_zstd(_differences(base[:, None], axis=2), ZSTD_LEFT)
        return [Choice(min(above, left, key=_num_bytes), min(raw, above, key=_num_bytes))]
    colour = np.stack([pixels[:, :, channel] - base for channel in (0, 2)], axis=1)
    differences = _differences(colour)
    fast = Coded(RAW, colour.tobytes())
    if colour.dtype == np.uint8:
        fast = min(fast, _as_nibbles(differences), key=_num_bytes)
    return [Choice(above, raw), Choice(_as_zstd(differences), fast)]


def choose(choices: list[Choice], max_bytes: float) -> list[Coded]:
    """Return one form of each: fast ones while all together fit, those that grow least first."""
    chosen = [choice.small for choice in choices]
    left = max_bytes - sum(len(coded.data) for coded in chosen)
    for index in sorted(range(len(choices)), key=lambda index: choices[index].growth):
        growth = choices[index].growth
        if growth <= max(left, 0):
            chosen[index] = choices[index].fast
            left -= growth
    return chosen


def decode(coded: Coded, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Planes:
    """Return the planes (h, P, w), perhaps not to be written to. The bytes are trusted."""
    if coded.form == RAW:
        # Arrow does not align cells; `require` copies where numpy and OpenCV need that.
        return np.require(np.frombuffer(coded.data, dtype).reshape(shape), requirements="A")
    planes = (_from_nibbles if coded.form == NIBBLES else _from_zstd)(coded.data, shape, dtype)
    if coded.form == ZSTD_LEFT:
        return np.add.accumulate(planes, axis=2, dtype=dtype, out=planes)
    # Rows of one dimension, for numpy takes twice as long for two.
    for above, row in itertools.pairwise(planes.reshape(len(planes), -1)):
        np.add(above, row, row)
    return planes


def interleave(parts: list[Planes], out: Samples) -> None:
    """Write the pixels (h, w, C) of grey, or of green and colour, into `out`."""
    base = parts[0][:, 0]
    if len(parts) == 1:
        out[:, :, 0] = base
    else:
        red, blue = parts[1].swapaxes(0, 1)
        cv2.merge((red + base, base, blue + base), dst=out)


def _num_bytes(coded: Coded) -> int:
    return len(coded.data)


def _differences(planes: Planes, axis: int = 0) -> Planes:
    return np.diff(planes, axis=axis, prepend=planes.dtype.type(0))


def _as_zstd(planes: Planes, form: str = ZSTD) -> Coded:
    if planes.dtype == np.uint16:
        centred = planes + np.uint16(_MIDDLE)
        planes = np.stack((centred.astype(np.uint8), (centred >> 8).astype(np.uint8)))
    return Coded(form, pa.Codec("zstd", LEVEL).compress(planes.tobytes(), asbytes=True))


def _from_zstd(data: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Planes:
    num_bytes = math.prod(shape) * dtype.itemsize
    frame = np.frombuffer(pa.Codec("zstd").decompress(data, num_bytes), np.uint8)
    if dtype == np.uint8:
        return frame.reshape(shape)
    low, high = frame.reshape(2, shape[0], -1)
    planes: Planes = cv2.merge((low, high)).view(np.uint16).reshape(shape)
    planes -= np.uint16(_MIDDLE)
    return planes


def _as_nibbles(planes: Planes) -> Coded:
    centred = planes + np.uint8(_MIDDLE_NIBBLE)
    packed = (centred[:, 0] & 15) | (centred[:, 1] << 4)
    wide = centred.ravel() > 15
    # Some that are not outside, too, so that a distance fits into a byte.
    wide[::_LONGEST] = True
    (places,) = np.nonzero(wide)
    distances = np.diff(places, prepend=0).astype(np.uint8)
    parts = packed, distances, centred.ravel()[places]
    return Coded(NIBBLES, b"".join(part.tobytes() for part in parts))


def _from_nibbles(data: Any, shape: tuple[int, int, int], _: np.dtype[Any]) -> Planes:
    height, width = shape[0], shape[2]
    packed, rest = np.split(np.frombuffer(data, np.uint8), [height * width])
    pairs = packed.reshape(height, width)
    planes = np.empty(shape, np.uint8)
    np.bitwise_and(pairs, 15, planes[:, 0])
    np.right_shift(pairs, 4, planes[:, 1])
    distances, wide = rest.reshape(2, -1)
    planes.reshape(-1)[np.cumsum(distances, dtype=np.intp)] = wide
    planes -= _MIDDLE_NIBBLE
    return planes
