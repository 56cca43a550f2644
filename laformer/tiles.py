"""Restoring in overlapping tiles: bounded memory whatever the size, in place of the whole view.

A tile sees itself alone, so its result is not that of the whole image (laformer/stripes.py gives
that). Where tiles overlap, each fades into the next: their weights add up to 1 at every pixel, so
there is no seam and a constant stays one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from laformer.batches import Array, to_tensor

Network: TypeAlias = Callable[[Tensor], Tensor]
"""(1, C, h, w) in units of the full range to (1, C', h * scale, w * scale)."""

Source: TypeAlias = Callable[[int, int, int, int], Array]
"""Top, left, height and width of a rectangle to its pixels (height, width, C)."""

Sink: TypeAlias = Callable[[Array], None]
"""Takes the next rows (n, W * scale, C') of the restored image, float32, from the top."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the tiles of an image lie."""

    height: int
    """Rows of lq."""
    width: int
    """Columns of lq."""
    tile_px: int
    """Side of a tile in pixels of lq; a smaller image is one tile."""
    overlap_px: int
    """Least overlap of neighbours in pixels of lq; the last ones of a row or column share more."""
    scale: int = 1
    """Side of the restored image over that of lq."""
    wanted: "Span | None" = None
    """Rows of lq whose restored rows are wanted; all of them when not given."""

    @property
    def rows(self) -> list["Span"]:
        """Rows of lq that each row of tiles covers, from the top."""
        return spans(self.height, self.tile_px, self.overlap_px)

    @property
    def columns(self) -> list["Span"]:
        """Columns of lq that each column of tiles covers, from the left."""
        return spans(self.width, self.tile_px, self.overlap_px)


@dataclass(frozen=True)
class Span:
    """Successive rows or columns of lq."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many."""
        return self.stop - self.start


def spans(length: int, tile_px: int, overlap_px: int) -> list[Span]:
    """Return where tiles lie along a side; the last one is shifted inwards, not padded."""
    if length <= tile_px:
        return [Span(0, length)]
    step = tile_px - overlap_px
    starts = [*range(0, length - tile_px, step), length - tile_px]
    return [Span(start, start + tile_px) for start in starts]


def windows(places: list[Span], overlap_px: int, scale: int) -> list[Array]:
    """Return the weights of each tile along one side, float32, which add up to 1 everywhere.

    A weight rises and falls linearly within the overlap, but not at the border of the image. The
    tiles of an image are a product of rows and columns: so are their weights, and so is the sum.
    """
    length, ramp = places[-1].stop * scale, overlap_px * scale
    total = np.zeros(length)
    raw = []
    for place in places:
        inside = np.arange(place.length * scale) + 0.5
        weight = np.ones(len(inside))
        if ramp and place.start:
            weight = np.minimum(weight, inside / ramp)
        if ramp and place.stop * scale < length:
            weight = np.minimum(weight, inside[::-1] / ramp)
        total[place.start * scale : place.stop * scale] += weight
        raw.append(weight)
    return [
        (weight / total[place.start * scale : place.stop * scale]).astype(np.float32)
        for place, weight in zip(places, raw, strict=True)
    ]


def restore_tiles(
    network: Network, source: Source, sink: Sink, grid: Grid, device: torch.device | str = "cpu"
) -> None:
    """Restore an image tile by tile; memory is one row of tiles, whatever the height.

    `source` is asked for each tile once, from the top and in each row of tiles from the left;
    `sink` is told each restored row once, from the top, in units of the full range. Rows come out
    the same to the bit whether others are wanted beside them or not.
    """
    scale, rows, columns = grid.scale, grid.rows, grid.columns
    wanted = grid.wanted or Span(0, grid.height)
    falling, across = (windows(side, grid.overlap_px, scale) for side in (rows, columns))
    bands = [*pairwise(rows), (rows[-1], Span(grid.height, grid.height))]
    # Rows above the next band of tiles are finished; those it shares are carried down to it.
    carried: Array | None = None
    for (place, following), weights in zip(bands, falling, strict=True):
        if place.stop <= wanted.start or place.start >= wanted.stop:
            continue
        band: Array | None = None
        for column, restored in _restored(network, source, place, columns, device):
            if band is None:
                shape = (place.length * scale, grid.width * scale, restored.shape[2])
                band = np.zeros(shape, np.float32)
            window = weights[:, None, None] * across[column][None, :, None]
            left = columns[column].start * scale
            band[:, left : left + restored.shape[1]] += restored * window
        assert band is not None
        if carried is not None:
            band[: len(carried)] += carried
        finished = (following.start - place.start) * scale
        above = max(0, wanted.start - place.start) * scale
        below = min(finished, (wanted.stop - place.start) * scale)
        if below > above:
            sink(band[above:below])
        carried = band[finished:].copy()


def _restored(
    network: Network, source: Source, row: Span, columns: list[Span], device: torch.device | str
) -> Iterator[tuple[int, Array]]:
    """Yield the number of each tile of a row and its restored pixels, float32."""
    for index, column in enumerate(columns):
        pixels = source(row.start, column.start, row.length, column.length)
        with torch.inference_mode():
            restored = network(to_tensor(pixels, device))[0].permute(1, 2, 0)
        yield index, restored.float().cpu().numpy()
