"""The strips and tiles of a TIFF to samples, so that a region costs what it touches.

The codec never sees the file itself: what is needed of it is stacked into a small TIFF of strips.
A tile of 3 samples a pixel is, byte by byte, a strip of grey three times as wide. So what OpenCV
reads wrong or not at all (grey with alpha, 16 bits plane by plane, small tiles) comes out right.
Source: TIFF 6.0; Adobe's technical notes on TIFF (deflate).
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cv2
import numpy as np

from pipelines import tiff
from pipelines.errors import ImageError
from pipelines.regions import Region
from pipelines.tiff import Entry, Tiff

Decode: TypeAlias = Callable[[bytes], Any]
"""Bytes of a TIFF to its samples (H, W) or (H, W, C); raises ImageError."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS: Final = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
"""Samples a pixel without alpha, of the photometric kinds that are read as they are stored."""
_MULTIPLIED_ALPHA: Final = 1
_NONE, _LZW, _OLD_JPEG, _DEFLATE, _PACKBITS = (1,), (5,), (6,), (8, 32946), (32773,)
_BYTEWISE: Final = _NONE + _LZW + _DEFLATE + _PACKBITS
"""Compressions that know bytes alone, not pixels."""
_BATCH_PIXELS: Final = 2**24
"""Pixels handed to the codec at a time."""
_BATCH_ROWS: Final = 2**19
"""Rows handed to the codec at a time: OpenCV takes 2^20."""


@dataclass(frozen=True)
class _Segments:
    """The grid of strips or tiles of one plane."""

    height: int
    width: int
    down: int
    across: int
    offsets: tuple[int, ...]
    num_bytes: tuple[int, ...]
    tiled: bool


def is_plain(page: Tiff) -> bool:
    """Return whether `read` gives the samples as stored, for `interpret`."""
    return page.bits in (8, 16) and page.photometric in _COLOURS and page.compression in _BYTEWISE


def check(page: Tiff) -> None:
    """Raise ImageError for what would come out wrong or not at all."""
    bits, sample_format = page.bits, page.value(tiff.SAMPLE_FORMAT, 1)
    if sample_format not in (1, 4) or bits not in (1, 2, 4, 8, 16):
        kind = {2: "signed", 3: "float"}.get(sample_format, "unsigned")
        raise ImageError(f"TIFF samples are {kind}, {bits} bits; save it with unsigned 8 or 16")
    if set(page.values(tiff.BITS, 1)) != {bits}:
        raise ImageError(
            f"TIFF samples of {page.values(tiff.BITS)} bits; save it with the same for all"
        )
    compression = page.compression
    if compression in _OLD_JPEG:
        raise ImageError("TIFF with JPEG of the old kind (6); save it with another compression")
    if is_plain(page):
        num_extra = page.num_samples - _COLOURS[page.photometric]
        if num_extra not in ((0,) if page.photometric == _CMYK else (0, 1)):
            raise ImageError(
                f"TIFF of photometric kind {page.photometric} with {page.num_samples} samples a "
                "pixel; save it as grey or RGB, with or without alpha"
            )
        if page.value(tiff.PREDICTOR, 1) not in (1, 2):
            raise ImageError(f"TIFF predictor {page.value(tiff.PREDICTOR)}; save it without")
    elif bits == 16:
        raise ImageError(
            f"16-bit TIFF of photometric kind {page.photometric}, compression {compression}; "
            "save it as grey or RGB, uncompressed or LZW"
        )
    elif page.num_samples > 1 and page.planar:
        raise ImageError(f"TIFF of compression {compression} in planes; save it with LZW")


def read(page: Tiff, region: Region, max_pixels: int, decode: Decode) -> Any:
    """Return a region of the stored image, (h, w) or (h, w, c), from the segments it touches.

    Plain kinds (`is_plain`) come with the samples in stored order, others as `decode` gives them.
    """
    segments = _segments(page)
    if segments.height * segments.width > max(max_pixels, _BATCH_PIXELS):
        raise ImageError(
            f"a strip or tile of {segments.width} x {segments.height} pixels is above the limit "
            f"of {max_pixels}; save it in smaller ones"
        )
    num_planes = page.num_samples if is_plain(page) and page.planar else 1
    if num_planes == 1:
        return _read_plane(page, segments, 0, region, decode)
    planes = [_read_plane(page, segments, n, region, decode) for n in range(num_planes)]
    return np.concatenate([plane.reshape(*plane.shape[:2], 1) for plane in planes], axis=2)


def interpret(page: Tiff, samples: Any) -> tuple[Any, Any]:
    """Return pixels (H, W, 1, 3 or 4), grey, RGB or _CMYK, and alpha (H, W) of a plain kind.

    Alpha of an unknown kind counts as not multiplied into the colours, which OpenCV writes.
    """
    num_colours, top = _COLOURS[page.photometric], np.iinfo(samples.dtype).max
    pixels = samples[:, :, :num_colours]
    if page.photometric == _WHITE_IS_ZERO:
        pixels = top - pixels
    if samples.shape[2] == num_colours:
        return pixels, None
    alpha = samples[:, :, num_colours]
    if page.value(tiff.EXTRA_SAMPLES, 0) == _MULTIPLIED_ALPHA:
        share = np.maximum(alpha, 1)[:, :, np.newaxis] / np.float64(top)
        pixels = np.minimum(np.rint(pixels / share), top).astype(samples.dtype)
    return pixels, alpha


def _segments(page: Tiff) -> _Segments:
    tiled = tiff.TILE_OFFSETS in page.entries
    width = page.value(tiff.TILE_WIDTH) if tiled else page.width
    height = (
        page.value(tiff.TILE_HEIGHT)
        if tiled
        else min(page.value(tiff.ROWS_PER_STRIP, 2**32), page.height)
    )
    if min(width, height) < 1:
        raise ImageError(f"strips or tiles of {width} x {height} pixels; save it again")
    return _Segments(
        height=height,
        width=width,
        down=-(-page.height // height),
        across=-(-page.width // width),
        offsets=page.values(tiff.TILE_OFFSETS if tiled else tiff.STRIP_OFFSETS),
        num_bytes=page.values(tiff.TILE_BYTES if tiled else tiff.STRIP_BYTES),
        tiled=tiled,
    )


def _read_plane(page: Tiff, segments: _Segments, plane: int, region: Region, decode: Decode) -> Any:
    """Return a region of one plane, or of all samples where they lie together."""
    out: Any = None
    for batch in _batches(segments, region):
        stacked = _decode_batch(page, segments, plane, batch, decode)
        if out is None:
            out = np.empty((region.height, region.width, *stacked.shape[2:]), stacked.dtype)
        if segments.across == 1:
            # Strips lie one below the other in the image too.
            _paste(out, stacked, batch[0][0] * segments.height - region.top, -region.left)
            continue
        for n, (row, column) in enumerate(batch):
            segment = stacked[n * segments.height : (n + 1) * segments.height]
            top, left = row * segments.height - region.top, column * segments.width - region.left
            _paste(out, segment, top, left)
    return out


def _paste(out: Any, segment: Any, top: int, left: int) -> None:
    """Copy what is inside of a segment whose corner is at (top, left), perhaps negative."""
    source = segment[max(-top, 0) :, max(-left, 0) :]
    target = out[max(top, 0) : top + len(segment), max(left, 0) : left + segment.shape[1]]
    target[:] = source[: target.shape[0], : target.shape[1]]


def _batches(segments: _Segments, region: Region) -> Iterator[list[tuple[int, int]]]:
    """Yield rows and columns in the grid of the touched segments, so many as fit into a batch."""
    most = max(
        1,
        min(
            _BATCH_PIXELS // (segments.height * segments.width),
            _BATCH_ROWS // segments.height,
        ),
    )
    batch = []
    for row in _touched(region.top, region.height, segments.height):
        for column in _touched(region.left, region.width, segments.width):
            batch.append((row, column))
            if len(batch) == most:
                yield batch
                batch = []
    if batch:
        yield batch


def _touched(start: int, length: int, step: int) -> range:
    return range(start // step, (start + length - 1) // step + 1)


def _decode_batch(
    page: Tiff, segments: _Segments, plane: int, batch: list[tuple[int, int]], decode: Decode
) -> Any:
    """Return segments one below the other, (rows, segment width) or (rows, segment width, c)."""
    num_rows = len(batch) * segments.height
    if not segments.tiled and batch[-1][0] == segments.down - 1:
        # The last strip ends with the image, a tile is always whole.
        num_rows -= segments.down * segments.height - page.height
    strips = _Strips(
        page,
        blobs=[_segment(page.data, segments, plane, row, column) for row, column in batch],
        shape=(num_rows, segments.width, 1 if page.planar else page.num_samples),
        height=segments.height,
    )
    if not is_plain(page):
        entries = {tag: page.entries[tag] for tag in tiff.DECODING if tag in page.entries}
        return strips.decode(entries, strips.shape[:2], decode)
    if page.compression in _NONE + _DEFLATE and page.value(tiff.FILL_ORDER, 1) == 1:
        samples = _unpacked(strips)
    elif strips.shape[2] == 3:
        # The codec undoes the differences itself, and faster.
        return _decode_rgb(strips, decode)
    else:
        samples = _decode_grey(strips, decode)
    if page.value(tiff.PREDICTOR, 1) == 2:
        # Each sample is stored as the difference to its left neighbour, modulo 2^bits.
        samples = np.cumsum(samples, axis=1, dtype=samples.dtype)
    return samples


@dataclass(frozen=True)
class _Strips:
    """Strips, or tiles as if they were some."""

    page: Tiff
    blobs: list[bytes]
    shape: tuple[int, int, int]
    """Rows of all together, columns, samples a pixel."""
    height: int
    """Rows of each but the last."""

    def decode(self, entries: dict[int, Entry], size: tuple[int, int], decode: Decode) -> Any:
        """Return what the codec makes of them under these tags, of size (rows, columns)."""
        samples = decode(tiff.excerpt(self.page.order, entries, size, self.height, self.blobs))
        if samples.shape[:2] != size:
            raise ImageError(
                "TIFF with strips or tiles of another size than it says; copy it again"
            )
        return samples


def _decode_rgb(strips: _Strips, decode: Decode) -> Any:
    page, (num_rows, width, _) = strips.page, strips.shape
    kept = (tiff.COMPRESSION, tiff.FILL_ORDER, tiff.PREDICTOR)
    entries = {tag: page.entries[tag] for tag in kept if tag in page.entries} | {
        tiff.BITS: tiff.shorts(page.order, *[page.bits] * 3),
        tiff.PHOTOMETRIC: tiff.shorts(page.order, _RGB),
        tiff.NUM_SAMPLES: tiff.shorts(page.order, 3),
    }
    return cv2.cvtColor(strips.decode(entries, (num_rows, width), decode), cv2.COLOR_BGR2RGB)


def _decode_grey(strips: _Strips, decode: Decode) -> Any:
    """Return samples of strips that are given to the codec as grey of as many columns."""
    page, (num_rows, width, num_samples) = strips.page, strips.shape
    kept = (tiff.COMPRESSION, tiff.FILL_ORDER)
    entries = {tag: page.entries[tag] for tag in kept if tag in page.entries} | {
        tiff.BITS: tiff.shorts(page.order, page.bits),
        tiff.PHOTOMETRIC: tiff.shorts(page.order, _BLACK_IS_ZERO),
    }
    samples = strips.decode(entries, (num_rows, width * num_samples), decode)
    return samples.reshape(strips.shape)


def _unpacked(strips: _Strips) -> Any:
    """Return samples of strips without compression, or deflated: zlib knows a damaged one."""
    page, (num_rows, width, num_samples) = strips.page, strips.shape
    row_bytes = width * num_samples * page.bits // 8
    parts = []
    for n, blob in enumerate(strips.blobs):
        num_bytes = min(strips.height, num_rows - n * strips.height) * row_bytes
        part = _inflated(blob, num_bytes) if page.compression in _DEFLATE else blob[:num_bytes]
        if len(part) != num_bytes:
            raise ImageError("truncated: a strip or tile is too short; copy it again", "damaged")
        parts.append(part)
    samples = np.frombuffer(b"".join(parts), f"{page.order}u{page.bits // 8}")
    return samples.reshape(strips.shape).astype(samples.dtype.newbyteorder("="), copy=False)


def _inflated(blob: bytes, num_bytes: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        part = inflater.decompress(blob, num_bytes)
        # The checksum is compared when the end is met.
        inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise ImageError(f"damaged: a strip or tile: {error}; copy it again", "damaged") from error
    return part


def _segment(data: bytes, segments: _Segments, plane: int, row: int, column: int) -> bytes:
    index = (plane * segments.down + row) * segments.across + column
    if index >= min(len(segments.offsets), len(segments.num_bytes)):
        raise ImageError("truncated: strips or tiles are missing; copy it again", "damaged")
    offset, num_bytes = segments.offsets[index], segments.num_bytes[index]
    if not num_bytes or offset + num_bytes > len(data):
        raise ImageError("truncated: a strip or tile is missing; copy it again", "damaged")
    return data[offset : offset + num_bytes]
