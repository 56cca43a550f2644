"""A TIFF in tiles, written row by row from the top: memory is one row of tiles.

BigTIFF, deflated, with the differences of neighbours stored (predictor 2). Source: TIFF 6.0;
the BigTIFF design.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import numpy as np

from pipelines import exif, tiff
from pipelines.tiff import Entry

TILE_PX: Final = 256
"""Side of a tile in pixels."""
_LEVEL: Final = 3
"""Effort of zlib: nearly as small as the most, at a third of the time."""
_DEFLATE, _DIFFERENCES, _STRAIGHT_ALPHA = 8, 2, 2
_HEADER: Final = struct.pack("<2sHHH", b"II", 43, 8, 0)


@dataclass
class Mosaic:
    """A file under way; nothing reads it before `close` has written its directory."""

    file: BinaryIO
    height: int
    """Rows of the image."""
    width: int
    """Columns of the image."""
    with_alpha: bool = False
    """Whether the last sample of a pixel is alpha."""
    rows: list[Any] = field(default_factory=list)
    """What came and is not yet a row of tiles."""
    offsets: list[int] = field(default_factory=list)
    num_bytes: list[int] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    """Samples of a pixel and bits of a sample, known once rows have come."""

    def __post_init__(self) -> None:
        """Leave room for the place of the directory."""
        self.file.write(_HEADER + bytes(8))

    def write(self, rows: Any) -> None:
        """Take the next rows (n, W, samples), uint8 or uint16."""
        self.shape = (rows.shape[2], rows.dtype.itemsize * 8)
        self.rows.append(rows)
        while sum(map(len, self.rows)) >= TILE_PX:
            waiting = np.concatenate(self.rows) if len(self.rows) > 1 else self.rows[0]
            self._write_tiles(waiting[:TILE_PX])
            self.rows = [waiting[TILE_PX:]]

    def append(self, tiles: Iterable[bytes], samples: int, bits: int) -> None:
        """Take the next rows of tiles as another mosaic of this width has packed them."""
        self.shape = (samples, bits)
        for packed in tiles:
            self._place(packed)

    def close(self, profile: bytes | None, said: exif.Directories) -> None:
        """Write what is left, and the directory with a colour profile and what `said` tells."""
        if any(map(len, self.rows)):
            self._write_tiles(np.concatenate(self.rows))
        missing = -(-self.height // TILE_PX) * -(-self.width // TILE_PX) - len(self.offsets)
        if missing:
            raise ValueError(f"{missing} tiles are missing; write all {self.height} rows")
        at = self._aligned()
        behind, pointers = exif.placed(said, at, big=True)
        entries = said.get(0, {}) | pointers | self._entries()
        if profile is not None:
            entries[tiff.PROFILE] = Entry(7, len(profile), profile)
        start = at + len(behind)
        self.file.write(behind + tiff.directory("<", entries, start, big=True))
        self.file.seek(len(_HEADER))
        self.file.write(struct.pack("<Q", start))

    def _write_tiles(self, rows: Any) -> None:
        samples, bits = self.shape
        whole = np.zeros((TILE_PX, -(-self.width // TILE_PX) * TILE_PX, samples), f"<u{bits // 8}")
        whole[: len(rows), : self.width] = rows
        for left in range(0, whole.shape[1], TILE_PX):
            tile = whole[:, left : left + TILE_PX].copy()
            tile[:, 1:] -= whole[:, left : left + TILE_PX - 1]
            self._place(zlib.compress(tile.tobytes(), _LEVEL))

    def _place(self, packed: bytes) -> None:
        self.offsets.append(self._aligned())
        self.num_bytes.append(len(packed))
        self.file.write(packed)

    def _aligned(self) -> int:
        """Return where the file ends, after making that even."""
        self.file.write(bytes(self.file.tell() % 2))
        return self.file.tell()

    def _entries(self) -> dict[int, Entry]:
        samples, bits = self.shape
        colours = samples - self.with_alpha
        extra = {tiff.EXTRA_SAMPLES: tiff.shorts("<", _STRAIGHT_ALPHA)} if self.with_alpha else {}
        return extra | {
            tiff.WIDTH: tiff.longs("<", self.width),
            tiff.HEIGHT: tiff.longs("<", self.height),
            tiff.BITS: tiff.shorts("<", *[bits] * samples),
            tiff.COMPRESSION: tiff.shorts("<", _DEFLATE),
            tiff.PHOTOMETRIC: tiff.shorts("<", 2 if colours == 3 else 1),
            tiff.NUM_SAMPLES: tiff.shorts("<", samples),
            tiff.PLANAR: tiff.shorts("<", 1),
            tiff.PREDICTOR: tiff.shorts("<", _DIFFERENCES),
            tiff.TILE_WIDTH: tiff.longs("<", TILE_PX),
            tiff.TILE_HEIGHT: tiff.longs("<", TILE_PX),
            tiff.TILE_OFFSETS: tiff.wide_longs("<", *self.offsets),
            tiff.TILE_BYTES: tiff.wide_longs("<", *self.num_bytes),
        }
