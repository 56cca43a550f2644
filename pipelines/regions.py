"""Rectangles of an image, and the eight ways in which a camera stores it (EXIF orientation)."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipelines.errors import ImageError


@dataclass(frozen=True)
class Region:
    """A rectangle of an image, in pixels."""

    top: int
    """First row."""
    left: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        if min(self.top, self.left) < 0 or min(self.height, self.width) < 1:
            raise ImageError(f"{self} is empty or outside; give for example Region(0, 0, 256, 256)")

    def check_inside(self, height: int, width: int) -> None:
        """Raise ImageError when the rectangle reaches out of an image of that size."""
        if self.top + self.height > height or self.left + self.width > width:
            raise ImageError(f"{self} reaches out of the image of {height} rows, {width} columns")

    def cut(self, image: Any) -> Any:
        """Return the view of (H, W) or (H, W, C) that lies inside."""
        rows = slice(self.top, self.top + self.height)
        return image[rows, self.left : self.left + self.width]


_ROWS_FLIPPED: Final = (3, 4, 6, 7)
_COLUMNS_FLIPPED: Final = (2, 3, 7, 8)
_TRANSPOSED: Final = (5, 6, 7, 8)
"""What undoes each EXIF orientation (tag 274): flips first, then rows for columns."""


def upright(image: Any, orientation: int) -> Any:
    """Return (H, W) or (H, W, C) as it is to be seen, contiguous."""
    if orientation in _ROWS_FLIPPED:
        image = image[::-1]
    if orientation in _COLUMNS_FLIPPED:
        image = image[:, ::-1]
    if orientation in _TRANSPOSED:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image)


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return height and width as they are to be seen."""
    return (width, height) if orientation in _TRANSPOSED else (height, width)


def stored(region: Region, height: int, width: int, orientation: int) -> Region:
    """Return where a rectangle of the upright image lies in the stored one of that size."""
    top, left, num_rows, num_columns = region.top, region.left, region.height, region.width
    if orientation in _TRANSPOSED:
        top, left, num_rows, num_columns = left, top, num_columns, num_rows
    if orientation in _ROWS_FLIPPED:
        top = height - top - num_rows
    if orientation in _COLUMNS_FLIPPED:
        left = width - left - num_columns
    return Region(top, left, num_rows, num_columns)
