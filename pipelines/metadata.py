"""What a file says of its picture beside pixels and colours: EXIF, XMP and resolution.

It is read from one file and written into another, of the same format or not; no codec takes part.
Sources: PNG (W3C, third edition), JFIF 1.02, XMP part 3, the WebP container, TIFF 6.0.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines import exif, headers, tiff
from pipelines.tiff import Entry

INCH_M = 0.0254
"""Metres in an inch."""
MOST_BYTES = 2**24
"""Longest XMP that is unpacked or taken along."""
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = b"XML:com.adobe.xmp"
_SEGMENT_BYTES = 65533
"""Most that fits into a segment of a JPEG."""
_DAMAGED = (struct.error, zlib.error, IndexError, OverflowError, ValueError)


@dataclass(frozen=True)
class Metadata:
    """What a file says of its picture; what is damaged counts as not said."""

    exif: bytes = b""
    """As a TIFF, without the words Exif in front."""
    xmp: bytes = b""
    """The XML."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch from left to right and from top to bottom, as stored."""

    def settled(self, height: int, width: int) -> "Metadata":
        """Return what holds for the upright image of that size."""
        xmp = re.sub(rb"(tiff:Orientation(?:=\"|='|>))[1-8]", rb"\g<1>1", self.xmp)
        for tag, side in (("ImageWidth", width), ("ImageLength", height)):
            xmp = _sized(xmp, f"tiff:{tag}", side)
        for tag, side in (("PixelXDimension", width), ("PixelYDimension", height)):
            xmp = _sized(xmp, f"exif:{tag}", side)
        block = exif.settled(self.exif, height, width) if self.exif else b""
        dpi = self.dpi
        if dpi and self.exif and headers.read_orientation(self.exif) >= 5:
            dpi = dpi[::-1]
        return Metadata(block, xmp, dpi)


def _sized(xmp: bytes, name: str, side: int) -> bytes:
    pattern = rf"({name}(?:=\"|='|>))\d+".encode()
    return re.sub(pattern, rb"\g<1>" + str(side).encode(), xmp)


def carried(original: bytes, encoded: bytes) -> bytes:
    """Return an encoded image with what the original says of its picture, which is upright now.

    BMP has no place for any of it. EXIF or XMP too long for a JPEG is left out.
    """
    said = read(original)
    if said == Metadata():
        return encoded
    header = headers.read_header(encoded)
    return write(encoded, said.settled(header.height, header.width))


def read(data: bytes) -> Metadata:
    """Return what an image file says."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _read_jpeg(data)
        if data[:4] == b"\x89PNG":
            return _read_png(data)
        if data[:4] == b"RIFF":
            chunks = {name: payload for name, payload, _ in _riff(data)}
            block = chunks.get(b"EXIF", b"").removeprefix(_EXIF)
            return Metadata(block, chunks.get(b"XMP ", b""), _exif_dpi(block))
        if data[:2] in (b"II", b"MM"):
            return read_tiff(data)
    except _DAMAGED:
        pass
    return Metadata()


def write(encoded: bytes, said: Metadata) -> bytes:
    """Return an image file, as `images.encode` writes it, that says so too."""
    if encoded[:3] == b"\xff\xd8\xff":
        return _write_jpeg(encoded, said)
    if encoded[:4] == b"\x89PNG":
        return _write_png(encoded, said)
    if encoded[:4] == b"RIFF":
        return _write_webp(encoded, said)
    if encoded[:4] == b"II*\0":
        return _write_tiff(encoded, said)
    return encoded


def read_tiff(data: bytes) -> Metadata:
    """Return what the first page says; what describes it becomes EXIF."""
    found = exif.unpacked(data)
    block = exif.packed(found)
    return Metadata(block, exif.payload(data, exif.XMP), _exif_dpi(block))


def tiff_entries(said: Metadata) -> exif.Directories:
    """Return the tags that say so in a little-endian TIFF."""
    try:
        found = exif.unpacked(said.exif) if said.exif else {0: {}}
    except _DAMAGED:
        found = {0: {}}
    if said.xmp:
        found[0][exif.XMP] = Entry(1, len(said.xmp), said.xmp)
    if said.dpi and exif.X_RESOLUTION not in found[0]:
        found[0] |= {
            exif.X_RESOLUTION: exif.fraction(said.dpi[0]),
            exif.Y_RESOLUTION: exif.fraction(said.dpi[1]),
            exif.RESOLUTION_UNIT: tiff.shorts("<", 2),
        }
    return found


def _exif_dpi(block: bytes) -> tuple[float, float] | None:
    try:
        tags = exif.unpacked(block)[0] if block else {}
        unit = exif.value(tags[exif.RESOLUTION_UNIT]) if exif.RESOLUTION_UNIT in tags else 2
        per_inch = {2: 1.0, 3: INCH_M * 100}.get(int(unit))
        across, down = (exif.value(tags[tag]) for tag in (exif.X_RESOLUTION, exif.Y_RESOLUTION))
    except (*_DAMAGED, KeyError):
        return None
    return (across * per_inch, down * per_inch) if per_inch and across and down else None


def _read_jpeg(data: bytes) -> Metadata:
    block, xmp, dpi = b"", b"", None
    for marker, payload in _segments(data):
        if marker == 0xFFE0 and payload[:5] == b"JFIF\0":
            unit, across, down = struct.unpack_from(">BHH", payload, 7)
            factor = {1: 1.0, 2: INCH_M * 100}.get(unit)
            dpi = (across * factor, down * factor) if factor and across and down else None
        elif marker == 0xFFE1 and payload.startswith(_EXIF) and not block:
            block = payload[len(_EXIF) :]
        elif marker == 0xFFE1 and payload.startswith(_XMP):
            xmp = payload[len(_XMP) :]
    return Metadata(block, xmp, dpi or _exif_dpi(block))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and payload of each segment before the picture."""
    offset = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, offset)
        if marker == 0xFFFF:
            offset += 1
            continue
        if marker in (0xFFDA, 0xFFD9) or marker < 0xFF01:
            return
        yield marker, data[offset + 4 : offset + 2 + length]
        offset += 2 + length


def _write_jpeg(encoded: bytes, said: Metadata) -> bytes:
    start = 4 + struct.unpack_from(">H", encoded, 4)[0]
    jfif = bytearray(encoded[:start])
    if said.dpi:
        sides = (min(round(side), 65535) for side in said.dpi)
        struct.pack_into(">BHH", jfif, 13, 1, *sides)
    bodies = [_EXIF + said.exif if said.exif else b"", _XMP + said.xmp if said.xmp else b""]
    segments = b"".join(
        struct.pack(">HH", 0xFFE1, len(body) + 2) + body
        for body in bodies
        if body and len(body) <= _SEGMENT_BYTES
    )
    return bytes(jfif) + segments + encoded[start:]


def _read_png(data: bytes) -> Metadata:
    block, xmp, dpi, offset, name = b"", b"", None, 8, b""
    while name != b"IEND" and offset + 8 <= len(data):
        num_bytes, name = struct.unpack_from(">I4s", data, offset)
        payload = data[offset + 8 : offset + 8 + num_bytes] if name != b"IDAT" else b""
        offset += 12 + num_bytes
        if name == b"eXIf":
            block = payload.removeprefix(_EXIF)
        elif name == b"pHYs":
            across, down, unit = struct.unpack(">IIB", payload)
            dpi = (across * INCH_M, down * INCH_M) if unit == 1 and across and down else None
        elif name == b"iTXt" and payload.startswith(_PNG_XMP + b"\0"):
            deflated, rest = payload[len(_PNG_XMP) + 1], payload[len(_PNG_XMP) + 3 :]
            xmp = rest.split(b"\0", 2)[2]
            xmp = zlib.decompressobj().decompress(xmp, MOST_BYTES) if deflated else xmp
    return Metadata(block, xmp, dpi or _exif_dpi(block))


def _write_png(encoded: bytes, said: Metadata) -> bytes:
    chunks = []
    if said.dpi:
        sides = (round(side / INCH_M) for side in said.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *sides, 1)))
    if said.exif:
        chunks.append((b"eXIf", said.exif))
    if said.xmp:
        chunks.append((b"iTXt", _PNG_XMP + bytes(5) + said.xmp))
    packed = b"".join(
        struct.pack(">I", len(payload))
        + name
        + payload
        + struct.pack(">I", zlib.crc32(name + payload))
        for name, payload in chunks
    )
    return encoded[:33] + packed + encoded[33:]


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield name, payload and offset of each chunk of a WebP."""
    offset = 12
    while offset + 8 <= len(data):
        name, num_bytes = struct.unpack_from("<4sI", data, offset)
        yield name, data[offset + 8 : offset + 8 + num_bytes], offset
        offset += 8 + num_bytes + num_bytes % 2


def _write_webp(encoded: bytes, said: Metadata) -> bytes:
    header = headers.read_header(encoded)
    name, payload, _ = next(_riff(encoded))
    flags = (8 if said.exif else 0) | (4 if said.xmp else 0)
    rest = encoded[12:]
    if name == b"VP8X":
        flags |= payload[0]
        rest = encoded[30:]
    elif name == b"VP8L" and payload[4] & 16:
        flags |= 16
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (header.width, header.height))
    chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + sides)]
    added = [(b"EXIF", said.exif), (b"XMP ", said.xmp)]

    def chunk(name: bytes, payload: bytes) -> bytes:
        return struct.pack("<4sI", name, len(payload)) + payload + bytes(len(payload) % 2)

    body = b"".join(chunk(*each) for each in chunks) + rest
    body += b"".join(chunk(*each) for each in added if each[1])
    return struct.pack("<4sI4s", b"RIFF", len(body) + 4, b"WEBP") + body


def _write_tiff(encoded: bytes, said: Metadata) -> bytes:
    found = tiff_entries(said)
    encoded += bytes(len(encoded) % 2)
    behind, pointers = exif.placed(found, len(encoded))
    return tiff.with_entries(encoded + behind, found[0] | pointers)
