"""Bicubic resizing as MATLAB's `imresize` does it, and the degradation by it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pixels import Pixels

SCALES: Final = (2, 3, 4)
"""Scales of the field. float32 sums of uint8 levels that they weigh are rounded without error.

The weights of 2 and 4 are multiples of 1/4096, so that sums are exact. Those of 3 are multiples of
1/81: no sum lies within 1/162 of where rounding changes, and float32 is far nearer than that.
"""

ABOVE_HALF: Any = 2.0**-14
"""In levels; less than the distance of any sum, at those scales, from half a level."""

BLOCK_ROWS: Final = 12
"""Rows that one product makes: fewer are more calls, more are more products with zeros."""


class Block(NamedTuple):
    """A few rows of the result: weights (rows, taps) times the rows of the image they need."""

    made: slice
    needed: slice
    weights: NDArray[np.floating]


def imresize(pixels: Pixels, height: int, width: int, *, round_between: bool = True) -> Any:
    """Return pixels (H, W, C), C at most 4, as (height, width, C) of the same dtype.

    Keys' cubic with a = -0.5, stretched by the scale where the image shrinks; borders are mirrored
    with the edge pixel repeated. The side that shrinks more goes first, the height when both
    shrink equally. Integers are clipped and rounded half up; float32 is neither.

    Args:
        pixels: uint8, uint16 or float32.
        height: rows wanted.
        width: columns wanted.
        round_between: whether integers are rounded between the two passes too: that is
            `imresize(image)` of an integer image. Without it `imresize(im2double(image))`, rounded
            once at the end. float32 is never rounded.

    Raises:
        ValueError: height or width is less than 1.

    Source: MATLAB `imresize`; Keys, "Cubic convolution interpolation for digital image
    processing", 1981.

    >>> imresize(np.array([[[0], [0], [80], [80]]], np.uint8), 1, 8).ravel()
    array([ 0,  0,  0, 16, 64, 86, 82, 80], dtype=uint8)
    """
    if height < 1 or width < 1:
        raise ValueError(f"size {height}x{width} is not positive; ask for at least 1x1")
    num_rows, num_columns, _ = pixels.shape
    sides = ((num_rows, height), (num_columns, width))
    columns_first = width * num_rows < height * num_columns
    image = _transposed(pixels) if columns_first else pixels
    first, second = reversed(sides) if columns_first else sides
    rounded = round_between and pixels.dtype != np.float32
    small = rounded and pixels.dtype == np.uint8 and all(_is_simple(*side) for side in sides)
    precision = np.dtype(np.float32 if small else np.float64)
    between = _resize_rows(image, *first, precision)
    if rounded:
        between = _in_type(between, pixels.dtype)
    resized = _in_type(_resize_rows(_transposed(between), *second, precision), pixels.dtype)
    return resized if columns_first else _transposed(resized)


@dataclass(frozen=True)
class Bicubic:
    """lq = imresize(gt, 1 / scale): every side is divided by the scale, antialiased.

    What MATLAB writes for a file, to the bit: the inputs of DIV2K, Set5, Set14 and the others.
    Draws nothing.
    """

    scale: int
    """How many times gt is larger than lq on each side: 2, 3 or 4."""
    round_between: bool = True
    """Whether integers are rounded between the passes, as those benchmarks' files were."""

    def __post_init__(self) -> None:
        """Refuse other scales."""
        if self.scale not in SCALES:
            raise ValueError(f"scale {self.scale} is not 2, 3 or 4; use for example 4")

    @property
    def margin_px(self) -> int:
        """Pixels of gt around a crop from which its lq follows as within the whole image.

        The kernel reaches less than 2 scales beyond the pixels that one of lq stands for. Where
        the image ends, less margin is right: the whole image is mirrored there too.
        """
        return 2 * self.scale

    def __call__(self, gt: Pixels, _rng: np.random.Generator) -> Any:
        """Return lq (H / scale, W / scale, C) in the dtype of gt.

        Raises:
            ValueError: H or W is no multiple of the scale.
        """
        height, width = gt.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"image {height}x{width} is not a multiple of the scale {self.scale} on both "
                "sides; cut off the rows and columns that are too many"
            )
        return imresize(
            gt, height // self.scale, width // self.scale, round_between=self.round_between
        )


@lru_cache(maxsize=64)
def _is_simple(old: int, new: int) -> bool:
    """Whether a side keeps its length or changes by one of the scales, up or down."""
    return max(old, new) in [min(old, new) * scale for scale in (1, *SCALES)]


def _transposed(pixels: Pixels) -> Pixels:
    """Return (H, W, C) as (W, H, C)."""
    height, width, channels = pixels.shape
    # Quicker than numpy copies a transposed view.
    return np.asarray(cv2.transpose(pixels)).reshape(width, height, channels)


def _resize_rows(pixels: Pixels, old: int, new: int, precision: np.dtype[Any]) -> Any:
    """Return (new, W, C) float, in levels, of pixels (old, W, C)."""
    width, channels = pixels.shape[1:]
    rows = pixels.reshape(old, width * channels)
    made = np.empty((new, width * channels), precision)
    for block in _blocks(old, new, precision):
        # Floats of a few rows at a time: they stay in the cache, and a large image in memory.
        np.matmul(block.weights, rows[block.needed].astype(precision), out=made[block.made])
    return made.reshape(new, width, channels)


def _in_type(values: NDArray[np.floating], dtype: np.dtype[Any]) -> Any:
    """Return values, which it may change, in a dtype: integers rounded half up and clipped."""
    if dtype == np.float32:
        return values.astype(np.float32)
    if values.dtype == np.float32:
        # OpenCV rounds half to even and clips, quicker than numpy. See SCALES: what is not
        # half a level is further away from it than this, so that halves alone change their side.
        height, width, channels = values.shape
        rows = values.reshape(height, width * channels)
        levels = cv2.add(rows, ABOVE_HALF, dtype=cv2.CV_8U)
        return levels.reshape(height, width, channels)
    values += 0.5
    np.clip(values, 0, np.iinfo(dtype).max, out=values)
    return values.astype(dtype)


@lru_cache(maxsize=64)
def _blocks(old: int, new: int, precision: np.dtype[Any]) -> tuple[Block, ...]:
    """Return the products that resize `old` rows to `new`; borders are folded into the weights."""
    sources, weights = _taps(old, new)
    blocks = []
    for start in range(0, new, BLOCK_ROWS):
        made = slice(start, min(start + BLOCK_ROWS, new))
        needed = slice(int(sources[made].min()), int(sources[made].max()) + 1)
        band = np.zeros((made.stop - made.start, needed.stop - needed.start))
        rows = np.arange(len(band))[:, None]
        np.add.at(band, (rows, sources[made] - needed.start), weights[made])
        blocks.append(Block(made, needed, band.astype(precision)))
    return tuple(blocks)


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which rows (new, taps) of `old` each new row is made of, and their weights."""
    stretch = max(1.0, old / new)
    centres = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5
    num_taps = int(np.ceil(4 * stretch)) + 2
    taps = np.floor(centres - 2 * stretch).astype(np.int64) + np.arange(num_taps)
    weights = _cubic((centres - taps) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    # 0 1 2 | 2 1 0: the edge pixel twice, as often as it takes.
    places = taps % (2 * old)
    mirrored = np.minimum(places, 2 * old - 1 - places)
    # A tap of no weight must not make a block need a row.
    return np.where(weights == 0, mirrored[:, num_taps // 2, None], mirrored), weights


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic with a = -0.5: 1 at 0, 0 at the other integers and from 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
