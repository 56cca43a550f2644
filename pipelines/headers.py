"""The first bytes of an image file: what it says of itself before a codec sees it.

Sizes are known before any memory is taken, and so is what the codec would hide: grey behind alpha,
CMYK, the kind of TIFF samples. Sources: PNG (W3C), JPEG (ITU T.81), TIFF 6.0 and BigTIFF, the WebP
container, Windows bitmaps.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipelines.errors import ImageError


@dataclass(frozen=True)
class Header:
    """What the file tells of itself before it is decoded."""

    width: int
    height: int
    grey: bool = False
    """The codec repeats grey when there is alpha."""
    opaque: bool = False
    """The codec adds an alpha that is not in the file."""
    patch: tuple[int, bytes] | None = None
    """Offset and bytes to write over the file before the codec sees it."""


def read_header(data: bytes) -> Header:
    """Return what the header says. Raises ImageError when it is none of a known format."""
    if not data:
        raise ImageError("0 bytes: the file is empty; copy it again")
    for signature, read in _READERS:
        if re.match(signature, data, re.DOTALL):
            try:
                return read(data)
            except (struct.error, KeyError, OverflowError) as error:
                raise ImageError("truncated, or its header is damaged; copy it again") from error
    raise ImageError(f"starts with {data[:8]!r}: not a PNG, JPEG, TIFF, WebP or BMP image")


def _read_png(data: bytes) -> Header:
    width, height, _, kind = struct.unpack_from(">IIBB", data, 16)
    offset = 8
    while data[offset + 4 : offset + 8] != b"IEND":
        offset += 12 + struct.unpack_from(">I", data, offset)[0]
    # Fails where the last checksum is cut off; libpng itself would write to stderr.
    struct.unpack_from(">I", data, offset + 8)
    return Header(width, height, grey=kind == 4)


def _read_jpeg(data: bytes) -> Header:
    offset = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, offset)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return Header(width, height)
        if marker < 0xFF01:
            raise ImageError(f"damaged: no marker at byte {offset}; copy it again")
        # Any number of 0xFF may stand before a marker.
        offset += 1 if marker == 0xFFFF else 2 + length


def _read_webp(data: bytes) -> Header:
    if data[12:16] == b"VP8X":
        low, middle, high = struct.unpack_from("<HHH", data, 24)
        return Header(1 + low + ((middle & 0xFF) << 16), 1 + (middle >> 8) + (high << 8))
    if data[12:16] == b"VP8L":
        (sides,) = struct.unpack_from("<I", data, 21)
        return Header(1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF))
    width, height = struct.unpack_from("<HH", data, 26)
    return Header(width & 0x3FFF, height & 0x3FFF)


def _read_bmp(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return Header(abs(width), abs(height))


def _read_tiff(data: bytes) -> Header:
    tags = _read_tags(data)
    values = {tag: value for tag, (value, _) in tags.items()}
    bits, colours = values.get(_BITS, 1), values[_PHOTOMETRIC]
    if values.get(_SAMPLE_FORMAT, 1) not in (1, 4) or bits not in (1, 4, 8, 16):
        kind = {2: "signed", 3: "float"}.get(values.get(_SAMPLE_FORMAT, 1), "unsigned")
        raise ImageError(f"TIFF samples are {kind}, {bits} bits; save it with unsigned 8 or 16")
    if values.get(_NUM_SAMPLES) == 2:
        raise ImageError("TIFF with grey and alpha, which the codec cannot read; save it as PNG")
    if bits == 16 and colours not in (_BLACK_IS_ZERO, _RGB):
        raise ImageError(f"16-bit TIFF of photometric kind {colours}; save it as grey or RGB")
    patch = None
    if bits == 8 and values.get(_EXTRA_SAMPLES) == _STRAIGHT_ALPHA:
        # The 8-bit path of the codec multiplies straight alpha into the colours and so loses them;
        # it leaves alone what is said to be multiplied already (1).
        patch = (tags[_EXTRA_SAMPLES][1], struct.pack(_byte_order(data) + "H", 1))
    return Header(values[_WIDTH], values[_HEIGHT], opaque=colours == _CMYK, patch=patch)


def _read_tags(tiff: bytes) -> dict[int, tuple[int, int]]:
    """Return first value and its offset for the tags below, of the first image of a TIFF or EXIF.

    Source: TIFF 6.0, section 2; BigTIFF (version 43) widens counts and offsets to 8 bytes.
    """
    order = _byte_order(tiff)
    (version,) = struct.unpack_from(order + "H", tiff, 2)
    count, word, start_at, entry_bytes = ("Q", "Q", 8, 20) if version == 43 else ("H", "I", 4, 12)
    (start,) = struct.unpack_from(order + word, tiff, start_at)
    (num_entries,) = struct.unpack_from(order + count, tiff, start)
    start += struct.calcsize(order + count)
    tags = {}
    for offset in range(start, start + num_entries * entry_bytes, entry_bytes):
        tag, kind, num_values = struct.unpack_from(order + "HH" + word, tiff, offset)
        if tag not in _TAGS or kind not in _INTEGERS:
            continue
        width = struct.calcsize(order + word)
        at = offset + 4 + width
        if num_values * struct.calcsize(order + _INTEGERS[kind]) > width:
            (at,) = struct.unpack_from(order + word, tiff, at)
        tags[tag] = (struct.unpack_from(order + _INTEGERS[kind], tiff, at)[0], at)
    return tags


def _byte_order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
_TAGS: Final = (256, 257, 258, 262, 274, 277, 338, 339)
(
    _WIDTH,
    _HEIGHT,
    _BITS,
    _PHOTOMETRIC,
    _ORIENTATION,
    _NUM_SAMPLES,
    _EXTRA_SAMPLES,
    _SAMPLE_FORMAT,
) = _TAGS
_BLACK_IS_ZERO, _RGB, _CMYK = 1, 2, 5
_STRAIGHT_ALPHA = 2

_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Header]], ...]] = (
    (rb"\x89PNG\r\n\x1a\n", _read_png),
    (rb"\xff\xd8\xff", _read_jpeg),
    (rb"II[*+]\0|MM\0[*+]", _read_tiff),
    (rb"RIFF....WEBP", _read_webp),
    # The size of the second header: two letters alone start many a text.
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", _read_bmp),
)
"""Signature of each format and the reader of its header."""


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that EXIF bytes state; 1 where they are damaged."""
    try:
        return _read_tags(exif.removeprefix(b"Exif\0\0")).get(_ORIENTATION, (1, 0))[0]
    except (struct.error, OverflowError):
        return 1
