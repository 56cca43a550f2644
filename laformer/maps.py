"""Where feature maps live while an image is restored in stripes, and how their rows are reached.

Rows are numbered from the top of the whole map, whichever of them are here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedRandom
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from laformer.geometry import padding


class Band(NamedTuple):
    """Successive rows of a map."""

    start: int
    stop: int


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Join maps (B, C, n, W) along a dimension; the result is channels_last, as maps are.

    torch.cat would choose another layout for parts of maps, in which all that follows is slow.
    """
    pixels = [part.permute(0, 2, 3, 1) for part in parts if part.shape[dim]]
    if len(pixels) == 1:
        return pixels[0].permute(0, 3, 1, 2)
    return torch.cat(pixels, dim=(0, 3, 1, 2)[dim]).permute(0, 3, 1, 2)


class RowsInMemory:
    """Rows of some channels in the memory of a device; they are worked on where `like` is."""

    def __init__(self, like: Tensor, num: int, device: torch.device) -> None:
        _, channels, _, self.width = like.shape
        empty = like.new_empty(num, self.width, channels, device=device)
        self.data, self.device = empty.permute(2, 0, 1)[None], like.device

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop, a view unless they travel."""
        return self.data[:, :, start:stop].to(self.device)

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from start on."""
        self.data[:, :, start : start + rows.shape[2]] = rows


class RowsInFile:
    """The same in a file: read and written, not mapped, so that a full disk raises OSError."""

    def __init__(self, like: Tensor, file: BufferedRandom) -> None:
        _, self.channels, _, self.width = like.shape
        self.dtype, self.device, self.file = like.dtype, like.device, file

    def read(self, start: int, stop: int) -> Tensor:
        """Return a copy of rows start to stop."""
        rows = torch.empty(stop - start, self.width, self.channels, dtype=self.dtype)
        self._seek(start)
        self.file.readinto(rows.view(torch.uint8).numpy().data)
        return rows.permute(2, 0, 1)[None].to(self.device)

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from start on."""
        data = rows[0].permute(1, 2, 0).cpu().contiguous()
        self._seek(start)
        self.file.write(data.view(torch.uint8).numpy().data)

    def _seek(self, row: int) -> None:
        self.file.seek(row * self.width * self.channels * self.dtype.itemsize)


Home = Callable[[Tensor, int], RowsInMemory | RowsInFile]
"""Makes room for a map, given its first rows and the number of rows that live here."""


class FeatureMap:
    """The rows of one band of a feature map of `height` rows; width and channels come with them.

    Its channels may live apart in equal groups: at full resolution the decoder's map is as many
    new channels before those of the skip.
    """

    def __init__(self, band: Band, height: int, home: Home) -> None:
        self.band, self.height, self.home = band, height, home
        self.groups: list[RowsInMemory | RowsInFile] = []

    def widened(self) -> "FeatureMap":
        """Return a map with as many new channels before the ones of this map."""
        wide = FeatureMap(self.band, self.height, self.home)
        first = self.read(self.band.start, self.band.start + 1)
        wide.groups = [self._room(first), *self.groups]
        return wide

    @property
    def width(self) -> int:
        """The columns of the map, known once rows have come."""
        return self.groups[0].width

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop (1, C, n, W), maybe a view."""
        top = self.band.start
        groups = [group.read(start - top, stop - top) for group in self.groups]
        return joined(groups, dim=1)

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from start on; those outside the band are left out."""
        above = max(0, self.band.start - start)
        rows = rows[:, :, above : max(above, self.band.stop - start)]
        self.groups = self.groups or [self._room(rows)]
        for group, part in zip(self.groups, rows.chunk(len(self.groups), dim=1), strict=True):
            group.write(start + above - self.band.start, part)

    def _room(self, like: Tensor) -> RowsInMemory | RowsInFile:
        return self.home(like, self.band.stop - self.band.start)


@dataclass(frozen=True)
class Bordered:
    """A map with copies of the rows next to its band, which belong to the neighbours."""

    inside: FeatureMap
    above: Tensor | None = None
    below: Tensor | None = None

    @property
    def band(self) -> Band:
        """The rows that can be read."""
        above = 0 if self.above is None else self.above.shape[2]
        below = 0 if self.below is None else self.below.shape[2]
        return Band(self.inside.band.start - above, self.inside.band.stop + below)

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop (1, C, n, W), maybe a view."""
        (first, last), (top, bottom) = self.band, self.inside.band
        parts = []
        if self.above is not None and start < top:
            parts.append(self.above[:, :, start - first : min(stop, top) - first])
        if max(start, top) < min(stop, bottom):
            parts.append(self.inside.read(max(start, top), min(stop, bottom)))
        if self.below is not None and stop > bottom:
            above = self.below.shape[2] - last
            parts.append(self.below[:, :, max(start, bottom) + above : stop + above])
        return joined(parts, dim=2)


class Pixels:
    """The rows of lq (1, C, H, W), padded as the network pads them, on the model's device."""

    def __init__(self, lq: Tensor, device: torch.device) -> None:
        height, width = lq.shape[2:]
        bottom, self.right, self.mode = padding(height, width)
        mirrored = self.mode == "reflect"
        below = [height - 2 - i if mirrored else height - 1 for i in range(bottom)]
        self.order = torch.tensor([*range(height), *below], device=lq.device)
        self.height = len(self.order)
        self.lq, self.device = lq, device

    def read(self, start: int, stop: int, *, halo: int = 0) -> Tensor:
        """Return rows start to stop (1, C, n, W) and `halo` more on both sides.

        Beyond the image its edge is repeated.
        """
        wanted = torch.arange(start - halo, stop + halo, device=self.order.device)
        rows = self.lq.index_select(2, self.order[wanted.clamp(0, self.height - 1)])
        rows = F.pad(rows, (0, self.right, 0, 0), mode=self.mode) if self.right else rows
        return rows.to(self.device, memory_format=torch.channels_last)
