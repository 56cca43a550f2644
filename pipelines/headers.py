"""The first bytes of an image file: what it says of itself before a codec sees it.

Sizes are known before any memory is taken, and so is what the codec would hide: grey behind alpha,
CMYK, the kind of TIFF samples. Sources: PNG (W3C), JPEG (ITU T.81), the WebP container, Windows
bitmaps; TIFF is in `pipelines.tiff`.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipelines import segments, tiff
from pipelines.errors import ImageError
from pipelines.tiff import Tiff

MAX_PROFILE_BYTES: Final = 2**24
"""Longest colour profile that is unpacked; real ones end below 4 MB."""


@dataclass(frozen=True)
class Header:
    """What a PNG, JPEG, WebP or BMP tells of itself before it is decoded."""

    width: int
    height: int
    data: bytes
    """What to hand to the codec."""
    grey: bool = False
    """The codec repeats grey when there is alpha."""
    cmyk: bool = False
    """The codec makes RGB of it without a profile."""
    jpeg: bool = False
    transparent: int | None = None
    """The level of a grey PNG that stands for full transparency."""
    exif: bytes = b""
    """Where the codec does not hand it out."""
    profile: bytes | None = None
    """Colour profile, where the codec does not hand it out; b"" is a damaged one."""


def read_header(data: bytes) -> Header | Tiff:
    """Return what the header says. Raises ImageError when it is none of a known format."""
    if not data:
        raise ImageError("0 bytes: the file is empty; copy it again", kind="empty")
    for signature, read in _READERS:
        if re.match(signature, data, re.DOTALL):
            try:
                return read(data)
            except (struct.error, KeyError, OverflowError) as error:
                raise ImageError(
                    "truncated, or its header is damaged; copy it again", kind="damaged"
                ) from error
    raise ImageError(
        f"starts with {data[:8]!r}: not a PNG, JPEG, TIFF, WebP or BMP image; remove it",
        kind="no image",
    )


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that EXIF bytes state; 1 where they are damaged."""
    try:
        return tiff.parse(exif.removeprefix(b"Exif\0\0")).value(tiff.ORIENTATION, 1)
    except (struct.error, OverflowError):
        return 1


def _read_png(data: bytes) -> Header:
    """Return the header, and of the chunks those that make the still picture.

    libpng would complain of the others, and of wrong checksums, on stderr.
    """
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    if depth not in _PNG_DEPTHS.get(kind, ()):
        raise ImageError(f"PNG of kind {kind} with {depth} bits a sample; copy it again")
    view, offset, name = memoryview(data), 8, b""
    chunks, known = [view[:8]], dict[bytes, bytes]()
    while name != b"IEND":
        num_bytes, name = struct.unpack_from(">I4s", data, offset)
        start, end = offset, offset + 12 + num_bytes
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        offset = end
        if name[0] & 32 and name not in _PNG_KNOWN:
            continue
        if zlib.crc32(view[start + 4 : end - 4]) != checksum:
            if name in (b"iCCP", b"eXIf"):
                known[name] = b""
                continue
            raise ImageError(f"damaged: wrong checksum at byte {start}; copy it again", "damaged")
        if name in _PNG_KNOWN:
            known[name] = data[start + 8 : end - 4]
        elif name not in _PNG_PICTURE:
            raise ImageError(f"PNG with a chunk {name!r} of an unknown kind; save it again")
        if name in _PNG_PICTURE or (name == b"tRNS" and kind in (2, 3)):
            chunks.append(view[start:end])
    grey_key = known.get(b"tRNS", b"") if kind == 0 else b""
    return Header(
        width,
        height,
        data=data if sum(map(len, chunks)) == len(data) else b"".join(chunks),
        grey=kind == 4,
        transparent=_grey_key(grey_key, depth) if grey_key else None,
        exif=known.get(b"eXIf", b""),
        profile=_inflate(known[b"iCCP"]) if b"iCCP" in known else None,
    )


def _grey_key(chunk: bytes, depth: int) -> int:
    """Return the transparent level as the codec gives it: 1, 2 and 4 bits widened to 8."""
    level: int = struct.unpack(">H", chunk)[0] & (1 << depth) - 1
    return level * (255 // ((1 << depth) - 1)) if depth < 8 else level


def _inflate(chunk: bytes) -> bytes:
    """Return the profile of an iCCP chunk: a name, a zero, the method, deflated bytes."""
    _, _, packed = chunk.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if inflater.eof else b""


def _read_jpeg(data: bytes) -> Header:
    offset = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, offset)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            bits, height, width, num_components = struct.unpack_from(">BHHB", data, offset + 4)
            if bits != 8 or marker not in _JPEG_KINDS:
                raise ImageError(
                    f"JPEG of a rare kind ({bits} bits, marker {marker:04X}); save it as PNG"
                )
            return Header(width, height, data, cmyk=num_components == 4, jpeg=True)
        if marker < 0xFF01:
            raise ImageError(f"damaged: no marker at byte {offset}; copy it again", kind="damaged")
        # Any number of 0xFF may stand before a marker.
        offset += 1 if marker == 0xFFFF else 2 + length


def _read_webp(data: bytes) -> Header:
    if data[12:16] == b"VP8X":
        low, middle, high = struct.unpack_from("<HHH", data, 24)
        return Header(1 + low + ((middle & 0xFF) << 16), 1 + (middle >> 8) + (high << 8), data)
    if data[12:16] == b"VP8L":
        (sides,) = struct.unpack_from("<I", data, 21)
        return Header(1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF), data)
    width, height = struct.unpack_from("<HH", data, 26)
    return Header(width & 0x3FFF, height & 0x3FFF, data)


def _read_bmp(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return Header(abs(width), abs(height), data)


def _read_tiff(data: bytes) -> Tiff:
    page = tiff.parse(data)
    segments.check(page)
    return page


_PNG_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_PICTURE: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_KNOWN: Final = (b"tRNS", b"iCCP", b"eXIf")
_JPEG_KINDS: Final = (0xFFC0, 0xFFC1, 0xFFC2, 0xFFC9, 0xFFCA)
"""Frames that libjpeg-turbo decodes: baseline, extended, progressive; two arithmetic ones."""

_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Header | Tiff]], ...]] = (
    (rb"\x89PNG\r\n\x1a\n", _read_png),
    (rb"\xff\xd8\xff", _read_jpeg),
    (rb"II[*+]\0|MM\0[*+]", _read_tiff),
    (rb"RIFF....WEBP", _read_webp),
    # The size of the second header: two letters alone start many a text.
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", _read_bmp),
)
"""Signature of each format and the reader of its header."""
