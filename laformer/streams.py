"""Streams of rows: a map that passes by in stripes, with the rows that a convolution reaches.

A stream knows which rows of which map it has. Where the image ends zeros stand for its
neighbours; where only the stream ends, rows whose neighbours did not come are missing after it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from laformer.maps import Band, joined


@dataclass(frozen=True)
class Stream:
    """Rows of a map of `height` rows, as successive stripes (1, C, n, W) from the top."""

    stripes: Iterator[Tensor]
    rows: Band
    height: int

    def haloed(
        self, halo: int, maps: Callable[[Tensor], tuple[Tensor, ...]], *, multiple: int = 1
    ) -> "Haloed":
        """Return the maps that are made of each stripe, with `halo` rows of their neighbours."""
        return Haloed(self, map(maps, self.stripes), halo, multiple)

    def narrowed(self, halo: int, stripes: Iterator[Tensor]) -> "Stream":
        """Return what was made of windows: rows whose neighbours did not come are missing."""
        start, stop = self.rows
        start = start + halo if start else 0
        stop = stop - halo if stop < self.height else self.height
        return Stream(stripes, Band(start, stop), self.height)


class Haloed(Iterator[tuple[Tensor, ...]]):
    """Stripes of maps that advance together, each widened by `halo` rows of its neighbours.

    Zeros stand for the rows outside the image. Rows leave as soon as the rows below them have
    come, in multiples of `multiple`. An iterator class, because a generator would keep alive
    what it yields.
    """

    def __init__(
        self, stream: Stream, stripes: Iterator[tuple[Tensor, ...]], halo: int, multiple: int
    ) -> None:
        start, stop = stream.rows
        self.stripes = stripes
        self.halo = halo
        self.multiple = multiple
        self.missing = stop - start
        self.top = halo if start == 0 else 0
        self.bottom = halo if stop == stream.height else 0
        self.held: tuple[Tensor, ...] = ()

    def __next__(self) -> tuple[Tensor, ...]:
        """Return the next windows, with `halo` rows above and below their own."""
        while True:
            windows = self._join(next(self.stripes))
            ready = windows[0].shape[2] - 2 * self.halo
            if self.missing:
                ready -= ready % self.multiple
            if ready > 0:
                self.held = tuple(window[:, :, ready:].clone() for window in windows)
                return tuple(window[:, :, : ready + 2 * self.halo] for window in windows)
            self.held = windows

    def _join(self, stripes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Put what is held, or zeros, above the stripes, and zeros below the last."""
        self.missing -= stripes[0].shape[2]
        below = 0 if self.missing else self.bottom
        above = self.held or tuple(zeros(stripe, self.top) for stripe in stripes)
        columns = zip(above, stripes, (zeros(stripe, below) for stripe in stripes), strict=True)
        return tuple(joined(column, dim=2) for column in columns)


def zeros(like: Tensor, rows: int) -> Tensor:
    """Return `rows` rows (1, C, rows, W) of zeros."""
    return like.new_zeros(1, 1, 1, 1).expand(1, like.shape[1], rows, like.shape[3])


def within(band: Band, windows: Haloed, start: int, halo: int) -> Iterator[tuple[Tensor, ...]]:
    """Cut windows, the first of which begins at row `start`, to the rows of a band."""
    for parts in windows:
        stop = start + parts[0].shape[2] - 2 * halo
        top, bottom = max(start, band.start) - start, min(stop, band.stop) - start
        start = stop
        if bottom > top:
            yield tuple(part[:, :, top : bottom + 2 * halo] for part in parts)
        del parts


def numbered(stream: Stream) -> Iterator[tuple[int, Tensor]]:
    """Number stripes by their first row; none is kept alive while the next is made."""
    start = stream.rows.start
    for rows in stream.stripes:
        yield start, rows
        start += rows.shape[2]
        del rows
