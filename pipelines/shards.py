"""Shards: many images in one Arrow IPC file, ready to be cut into crops.

A PNG has to be decoded as a whole for one crop of it, and slowly. In a shard an image is one record
batch whose rows are its tiles, from left to right and from top to bottom, so that a crop costs the
tiles it touches; `pipelines.tiles` says what is in `base` and `colour`. One ranged read of the
batch's message brings the whole image, and `pyarrow.ipc.open_file` opens the file as any other.
"""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipelines import images, tiles
from pipelines.errors import ImageError
from pipelines.images import Photo, Samples

SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),  # of the image, in the manifest
        ("image_height", pa.int32()),
        ("image_width", pa.int32()),
        ("top", pa.int32()),  # of the tile
        ("left", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("channels", pa.int8()),  # 1 grey, 3 RGB
        ("bits", pa.int8()),  # per stored sample: 8 or 16
        ("scale", pa.int16()),  # of stored samples: 1, or 257 where an image of 16 bits was of 8
        ("checksum", pa.uint32()),  # of the other columns
        ("base_form", pa.string()),  # of the next: a name of `pipelines.tiles`
        ("base", pa.binary()),  # grey or green
        ("colour_form", pa.string()),
        ("colour", pa.binary()),  # red - green and blue - green; null in grey
    ]
)

TILE_PX: Final = (192, 4096)
"""Height and width of a tile: small ones waste less around a crop, wide ones less per row."""

MAX_OF_PNG: Final = 1.09
"""Bytes that an image may take to be fast, over those of its PNG as OpenCV writes it.

Arrow's around them, 1 to 2 kB, come on top, and an image whose smallest form is larger has that.
"""

_PLANES: Final = ("base", "colour")
_SIZES: Final = ("image_height", "image_width", "channels", "bits", "scale", "height", "width")
_CHANNELS: Final = (1, 3)
_DEPTHS: Final = ((8, 1), (8, 257), (16, 1))
_FOLD: Final = 127


@dataclass(frozen=True)
class Grid:
    """What the rows of an image say, but for its pixels."""

    key: str
    """Of the image."""
    height: int
    """Of the image."""
    width: int
    """Of the image."""
    channels: int
    """1 grey, 3 RGB."""
    bits: int
    """Per stored sample: 8 or 16."""
    scale: int
    """Of stored samples: 1 or 257."""
    tile_height: int
    """Of all tiles but those of the last row."""
    tile_width: int
    """Of all tiles but those of the last column."""

    @property
    def num_columns(self) -> int:
        """Tiles beside one another."""
        return math.ceil(self.width / self.tile_width)

    @property
    def num_tiles(self) -> int:
        """All tiles."""
        return self.num_columns * math.ceil(self.height / self.tile_height)

    def facts(self, index: int) -> dict[str, Any]:
        """Return the plain columns of a tile."""
        row, column = divmod(index, self.num_columns)
        top, left = row * self.tile_height, column * self.tile_width
        return {
            "key": self.key,
            "image_height": self.height,
            "image_width": self.width,
            "top": top,
            "left": left,
            "height": min(self.tile_height, self.height - top),
            "width": min(self.tile_width, self.width - left),
            "channels": self.channels,
            "bits": self.bits,
            "scale": self.scale,
        }


def pack(key: str, pixels: Samples) -> pa.RecordBatch:
    """Return an image (H, W, C), uint8 or uint16, C = 1 or 3, as tiles.

    It is also written as PNG, only to learn how many bytes it may take.
    """
    photo, scale = Photo(pixels), 1
    if pixels.dtype == np.uint16 and not (pixels % 257).any():
        pixels, scale = (pixels // 257).astype(np.uint8), 257
    height, width, channels = pixels.shape
    sides = min(TILE_PX[0], height), min(TILE_PX[1], width)
    grid = Grid(key, height, width, channels, 8 * pixels.itemsize, scale, *sides)
    places = [grid.facts(index) for index in range(grid.num_tiles)]
    choices = [
        tiles.encode(pixels[top : top + facts["height"], left : left + facts["width"]])
        for facts in places
        for top, left in [(facts["top"], facts["left"])]
    ]
    png = images.encode(photo, ".png")
    chosen = iter(tiles.choose(list(itertools.chain(*choices)), MAX_OF_PNG * len(png)))
    rows = []
    for facts, planes in zip(places, choices, strict=True):
        coded = list(itertools.islice(chosen, len(planes)))
        row = facts | {"checksum": _checksum(facts, coded)}
        for name, (form, data) in zip(_PLANES, coded, strict=False):  # grey has no colour
            row |= {f"{name}_form": form, name: data}
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def bind(batches: list[pa.RecordBatch]) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the shard of packed images and the (offset, num_bytes) of each in it."""
    sink, spans = pa.BufferOutputStream(), []
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
            # The first batch comes with the schema before it.
            num_bytes = pa.ipc.get_record_batch_size(batch)
            spans.append((sink.tell() - num_bytes, num_bytes))
    return sink.getvalue().to_pybytes(), spans


def unpack(key: str, message: bytes) -> "Tiles":
    """Return the image whose bytes in a shard these are. Raises ImageError where they are not."""
    (tiles,) = unpack_all((key,), message)
    return tiles


def unpack_all(keys: tuple[str, ...], messages: bytes) -> list["Tiles"]:
    """Return images whose bytes follow each other in a shard, as `unpack` does."""
    reader = pa.BufferReader(messages)
    return [_unpack(key, reader) for key in keys]


def _unpack(key: str, reader: Any) -> "Tiles":
    try:
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(reader), SCHEMA)
        batch.validate(full=True)
        found = {column: batch[column][0].as_py() for column in ("key", *_SIZES)}
    except (pa.ArrowException, OSError, EOFError, ValueError, IndexError) as error:
        raise _damaged(key, str(error)) from error
    if found["key"] != key:
        raise _damaged(key, f"it holds {found['key']!r}")
    sizes = [found[name] for name in _SIZES]
    if None in sizes or min(sizes) < 1:
        raise _damaged(key, "its size is missing")
    grid = Grid(key, *sizes)
    known = grid.channels in _CHANNELS and (grid.bits, grid.scale) in _DEPTHS
    if not known or grid.num_tiles != batch.num_rows:
        raise _damaged(key, "its tiles do not make up an image")
    return Tiles(grid, batch)


@dataclass(frozen=True, eq=False)
class Tiles:
    """An image of a shard. A tile is checked and decoded when it is needed."""

    grid: Grid
    """What the first row tells; the checksum of each tile tells whether it holds for that tile."""
    batch: pa.RecordBatch
    """Rows of `SCHEMA`."""
    _decoded: dict[int, list[tiles.Planes]] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the image."""
        return self.grid.height, self.grid.width, self.grid.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(np.uint16 if self.grid.scale > 1 else self._stored)

    @property
    def _stored(self) -> np.dtype[Any]:
        return np.dtype(f"u{self.grid.bits // 8}")

    def whole(self) -> Samples:
        """Return the image (H, W, C), its tiles not kept, so that the CPU's cache holds one."""
        return self._cut((0, 0), self.shape, self._decode)

    def crop(self, top: int, left: int, height: int, width: int) -> Samples:
        """Return (height, width, C) of the image, as a copy; keep the tiles for other crops.

        Raises ImageError where damaged.
        """
        image_height, image_width, channels = self.shape
        bottom, right = top + height, left + width
        if not (0 <= top < bottom <= image_height and 0 <= left < right <= image_width):
            raise ValueError(
                f"rows {top} to {bottom}, columns {left} to {right} are not in an image of "
                f"{image_height} x {image_width}; cut inside it"
            )
        return self._cut((top, left), (height, width, channels), self._kept)

    def _cut(
        self,
        corner: tuple[int, int],
        shape: tuple[int, int, int],
        planes_of: Callable[[int], list[tiles.Planes]],
    ) -> Samples:
        out = np.empty(shape, self._stored)
        for row, rows, to_rows in _parts(corner[0], shape[0], self.grid.tile_height):
            for column, columns, to_columns in _parts(corner[1], shape[1], self.grid.tile_width):
                planes = planes_of(row * self.grid.num_columns + column)
                parts = [part[rows, :, columns] for part in planes]
                tiles.interleave(parts, out[to_rows, to_columns])
        return out if self.grid.scale == 1 else out * self.dtype.type(self.grid.scale)

    def _kept(self, index: int) -> list[tiles.Planes]:
        if index not in self._decoded:
            self._decoded[index] = self._decode(index)
        return self._decoded[index]

    def _decode(self, index: int) -> list[tiles.Planes]:
        """Check and decode a tile."""
        facts, channels = self.grid.facts(index), self.grid.channels
        coded = [self._coded(name, index) for name in _PLANES[: 1 if channels == 1 else 2]]
        if self.batch["checksum"][index].as_py() != _checksum(facts, coded):
            raise _damaged(self.grid.key, f"tile {index} does not agree with its checksum")
        return [
            tiles.decode(stored, (facts["height"], num_planes, facts["width"]), self._stored)
            for num_planes, stored in enumerate(coded, start=1)
        ]

    def _coded(self, name: str, index: int) -> tiles.Coded:
        """Return a cell of `base` or `colour` without a copy, which a scalar of Arrow would be."""
        _, offsets, values = self.batch[name].buffers()
        if values is None:
            return tiles.Coded("", b"")
        start, stop = np.frombuffer(offsets, np.int32, 2, 4 * index).tolist()
        return tiles.Coded(self.batch[f"{name}_form"][index].as_py(), values[start:stop])


def _parts(start: int, length: int, side: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each tile of a stretch, what of the tile it touches and where that is within it."""
    stop = start + length
    for index in range(start // side, math.ceil(stop / side)):
        first, last = max(start, index * side), min(stop, (index + 1) * side)
        yield (
            index,
            slice(first - index * side, last - index * side),
            slice(first - start, last - start),
        )


def _checksum(facts: dict[str, Any], coded: list[tiles.Coded]) -> int:
    """Return the checksum of a tile; what its plain columns say is a part of it.

    The words of 8 bytes of a plane are folded into `_FOLD` by exclusive or, and the CRC-32 is of
    those, in a third of the time. As with CRC-32 a change within four bytes of one word is always
    found and any other but once in 2**32, unless what changed in one place changed alike in another
    that is a multiple of 1016 bytes away; pages of memory and of disks are not.
    """
    header = (*facts.values(), *((form, len(data)) for form, data in coded))
    crc = zlib.crc32(repr(header).encode())
    for _, data in coded:
        num_folds = len(data) // (8 * _FOLD)
        words = np.frombuffer(data, np.uint64, num_folds * _FOLD).reshape(num_folds, _FOLD)
        crc = zlib.crc32(np.bitwise_xor.reduce(words, axis=0), crc)
        crc = zlib.crc32(memoryview(data)[words.nbytes :], crc)
    return crc


def _damaged(key: str, reason: str) -> ImageError:
    return ImageError(f"{key}: damaged in its shard: {reason}; write the shards again")
