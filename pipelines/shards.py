"""Shards: many images in one Arrow IPC file, ready to be cut into crops.

A PNG has to be decoded as a whole for one crop of it, and slowly. In a shard an image is one record
batch whose rows are its tiles, from left to right and from top to bottom, so that a crop costs the
tiles it touches; `pipelines.tiles` says what is in `pixels`. One ranged read of the batch's message
brings the whole image, and `pyarrow.ipc.open_file` opens the file as any other.
"""

import hashlib
import itertools
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipelines import images, storage, tiles
from pipelines.errors import ImageError
from pipelines.images import Samples

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
        ("bits", pa.int8()),  # per sample: 8 or 16
        ("codec", pa.string()),  # of `pixels`
        ("crc32", pa.uint32()),  # of the other columns
        ("pixels", pa.binary()),
    ]
)
CODEC: Final = "up-zstd"
"""The only code of `pixels` yet: `pipelines.tiles`."""

TILE_PX: Final = (192, 192)
"""Height and width of a tile: small ones waste less around a crop, large ones less per pixel."""

SHARD_BYTES: Final = 2**26
"""A shard is closed before it would grow above this; a larger image has a shard of its own."""

_SIZES: Final = ("image_height", "image_width", "channels", "bits", "height", "width")
_KINDS: Final = ((1, 8), (3, 8), (1, 16), (3, 16))


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
    """Per sample: 8 or 16."""
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
            "codec": CODEC,
        }


@dataclass(frozen=True)
class Place:
    """Where an image is; without a shard there is a reason."""

    key: str
    """Of the image."""
    shard: str = ""
    """Name of the file below the folder of the shards."""
    offset: int = 0
    """First byte of the image in it."""
    num_bytes: int = 0
    """Bytes of the image in it."""
    reason: str = ""
    """Why the image could not be packed, else empty."""


def pack(key: str, pixels: Samples) -> pa.RecordBatch:
    """Return an image (H, W, C), uint8 or uint16, C = 1 or 3, as tiles."""
    height, width, channels = images.Photo(pixels).pixels.shape
    sides = min(TILE_PX[0], height), min(TILE_PX[1], width)
    grid = Grid(key, height, width, channels, 8 * pixels.itemsize, *sides)
    rows = []
    for index in range(grid.num_tiles):
        facts = grid.facts(index)
        bottom, right = facts["top"] + facts["height"], facts["left"] + facts["width"]
        data = tiles.encode(pixels[facts["top"] : bottom, facts["left"] : right])
        rows.append(facts | {"crc32": _crc32(facts, data), "pixels": data})
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
    try:
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(message), SCHEMA)
        batch.validate(full=True)
        found = {column: batch[column][0].as_py() for column in SCHEMA.names[:-1]}
    except (pa.ArrowException, OSError, EOFError, ValueError, IndexError) as error:
        raise _damaged(key, str(error)) from error
    if found["key"] != key or found["codec"] != CODEC:
        raise _damaged(key, f"it holds {found['key']!r} in the code {found['codec']!r}")
    sizes = [found[name] for name in _SIZES]
    if None in sizes or min(sizes) < 1:
        raise _damaged(key, "its size is missing")
    grid = Grid(key, *sizes)
    if (grid.channels, grid.bits) not in _KINDS or grid.num_tiles != batch.num_rows:
        raise _damaged(key, "its tiles do not make up an image")
    return Tiles(grid, batch)


@dataclass(frozen=True, eq=False)
class Tiles:
    """An image of a shard. A tile is checked and decoded when it is needed, and kept."""

    grid: Grid
    """What the first row tells; the checksum of each tile tells whether it holds for that tile."""
    batch: pa.RecordBatch
    """Rows of `SCHEMA`."""
    _decoded: dict[int, tiles.Planes] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the image."""
        return self.grid.height, self.grid.width, self.grid.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(f"u{self.grid.bits // 8}")

    def whole(self) -> Samples:
        """Return the image (H, W, C)."""
        return self.crop(0, 0, *self.shape[:2])

    def crop(self, top: int, left: int, height: int, width: int) -> Samples:
        """Return (height, width, C) of the image, as a copy. Raises ImageError where damaged."""
        image_height, image_width, channels = self.shape
        bottom, right = top + height, left + width
        if not (0 <= top < bottom <= image_height and 0 <= left < right <= image_width):
            raise ValueError(
                f"rows {top} to {bottom}, columns {left} to {right} are not in an image of "
                f"{image_height} x {image_width}; cut inside it"
            )
        tile_height, tile_width = self.grid.tile_height, self.grid.tile_width
        columns = range(left // tile_width, math.ceil(right / tile_width))
        out = np.empty((height, width, channels), self.dtype)
        for band in range(top // tile_height, math.ceil(bottom / tile_height)):
            start = band * tile_height
            rows = slice(max(top - start, 0), min(bottom - start, tile_height))
            indices = [band * self.grid.num_columns + column for column in columns]
            planes = self._planes(indices, rows, left - columns[0] * tile_width, width)
            first = start + rows.start - top
            tiles.interleave(planes, out[first : first + planes.shape[1]])
        return out

    def _planes(self, indices: list[int], rows: slice, skip_px: int, width: int) -> tiles.Planes:
        """Return (C, h, width) of neighbouring tiles, without the first `skip_px` columns."""
        self._decode([index for index in indices if index not in self._decoded])
        parts = [self._decoded[index][rows] for index in indices]
        out = np.empty((self.shape[2], len(parts[0]), width), self.dtype)
        start = -skip_px
        for part in parts:
            stop = min(start + part.shape[2], width)
            out[:, :, max(start, 0) : stop] = part[:, :, max(-start, 0) : stop - start].swapaxes(
                0, 1
            )
            start = stop
        return out

    def _decode(self, indices: list[int]) -> None:
        """Check and decode tiles of one height."""
        if not indices:
            return
        rows = [self.grid.facts(index) for index in indices]
        pixels = [self.batch["pixels"][index].as_buffer() for index in indices]
        for index, facts, data in zip(indices, rows, pixels, strict=True):
            if data is None or _crc32(facts, data) != self.batch["crc32"][index].as_py():
                raise _damaged(self.grid.key, f"tile {index} does not agree with its checksum")
        widths = [facts["width"] for facts in rows]
        out = np.empty((rows[0]["height"], self.grid.channels, sum(widths)), self.dtype)
        tiles.decode(pixels, widths, out)
        edges = itertools.pairwise(itertools.accumulate(widths, initial=0))
        for index, (start, stop) in zip(indices, edges, strict=True):
            self._decoded[index] = out[:, :, start:stop]


def write_shards(
    items: Iterable[tuple[str, bytes]], folder: str, *, max_bytes: int = SHARD_BYTES
) -> list[Place]:
    """Pack (key, bytes of the image file) in the order given; return where each image is.

    A shard is named by the sha256 of its bytes and written whole or not at all, so that to do the
    same again changes nothing. Alpha is left out. An image that cannot be decoded is a place with a
    reason and without a shard.
    """
    places: dict[str, Place] = {}
    batches: dict[str, pa.RecordBatch] = {}
    num_bytes = 0
    for key, data in items:
        try:
            batch = pack(key, images.decode(data).pixels)
        except ImageError as error:
            places[key] = Place(key, reason=str(error))
            continue
        places[key] = Place(key)
        if batches and num_bytes + batch.nbytes > max_bytes:
            places |= _write(batches, folder)
            batches, num_bytes = {}, 0
        batches[key] = batch
        num_bytes += batch.nbytes
    return list((places | _write(batches, folder)).values())


def _write(batches: dict[str, pa.RecordBatch], folder: str) -> dict[str, Place]:
    if not batches:
        return {}
    data, spans = bind(list(batches.values()))
    name = f"{hashlib.sha256(data).hexdigest()}.arrow"
    storage.put(storage.join(folder, name), data)
    return {key: Place(key, name, *span) for key, span in zip(batches, spans, strict=True)}


def _crc32(facts: dict[str, Any], pixels: Any) -> int:
    """Return the checksum of a tile; what its plain columns say is a part of it."""
    return zlib.crc32(pixels, zlib.crc32(repr(tuple(facts.values())).encode()))


def _damaged(key: str, reason: str) -> ImageError:
    return ImageError(f"{key}: damaged in its shard: {reason}; write the shards again")
