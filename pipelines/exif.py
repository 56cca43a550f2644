"""EXIF of a restored photo: what still holds stays, what does not is mended.

EXIF is laid out as a TIFF. Mending changes values in their place, so that the notes of camera
makers, which point into the block by position, stay readable. Source: CIPA DC-008 (Exif 3.0).
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines import tiff
from pipelines.tiff import Entry

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, XMP, IPTC = 282, 283, 296, 700, 33723
_CAMERA, _POSITION = 34665, 34853
"""Pointers to the directories of the camera's settings and of the place."""
_PIXEL_WIDTH, _PIXEL_HEIGHT, _SHARED = 0xA002, 0xA003, 0xA005
_THUMBNAIL, _THUMBNAIL_BYTES = 513, 514
DESCRIPTIVE: Final = (
    *(270, 271, 272, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT),
    *(305, 306, 315, 316, IPTC, 33432),
)
"""Tags of the first directory that do not depend on how pixels are stored: what, who, when."""
_UNIT_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}
_PER_VALUE: Final = {5: 2, 10: 2}
"""A fraction is two numbers."""

Directories = dict[int, dict[int, Entry]]
"""Tags of the first directory, at 0, and of those it points to, little-endian."""


@dataclass(frozen=True)
class _Field:
    """Where a tag is in a block."""

    at: int
    kind: int
    num_values: int
    value_at: int

    @property
    def num_bytes(self) -> int:
        return self.num_values * _UNIT_BYTES.get(self.kind, 1) * _PER_VALUE.get(self.kind, 1)


def settled(block: bytes, height: int, width: int) -> bytes:
    """Return EXIF for an upright image of that size, without its thumbnail; b"" for a damaged one.

    The orientation becomes 1, sizes that are stated become those of the image.
    """
    try:
        return _settled(bytearray(block), height, width)
    except (struct.error, OverflowError):
        return b""


def _settled(block: bytearray, height: int, width: int) -> bytes:
    order, start = _start(block)
    fields, next_at = _fields(block, order, start)
    changed = [(fields.get(tiff.ORIENTATION), 1)]
    sizes = {tiff.WIDTH: width, tiff.HEIGHT: height}
    changed += [(fields.get(tag), value) for tag, value in sizes.items()]
    if _CAMERA in fields:
        camera, _ = _fields(block, order, _pointed(block, order, fields[_CAMERA]))
        changed += [(camera.get(_PIXEL_WIDTH), width), (camera.get(_PIXEL_HEIGHT), height)]
    for field, value in changed:
        if field is not None:
            # As one number of four bytes, which fits in the place of any.
            struct.pack_into(order + "HII", block, field.at + 2, 4, 1, value)
    (following,) = struct.unpack_from(order + "I", block, next_at)
    struct.pack_into(order + "I", block, next_at, 0)
    if following:
        _without_thumbnail(block, order, following)
    return bytes(block)


def _without_thumbnail(block: bytearray, order: str, start: int) -> None:
    """Blank the picture, or cut it off where it is the end; its directory is no longer named."""
    try:
        fields, _ = _fields(block, order, start)
        at = _pointed(block, order, fields[_THUMBNAIL])
        num_bytes = _pointed(block, order, fields[_THUMBNAIL_BYTES])
    except (struct.error, KeyError):
        return
    if at + num_bytes >= len(block):
        del block[at:]
    else:
        block[at : at + num_bytes] = bytes(num_bytes)


def unpacked(block: bytes) -> Directories:
    """Return the descriptive tags of EXIF or of the first page of a TIFF, and what they point to.

    Raises struct.error where the block is damaged.
    """
    order, start = _start(block)
    fields, _ = _fields(block, order, start)
    found = {0: {tag: _entry(block, order, fields[tag]) for tag in DESCRIPTIVE if tag in fields}}
    for tag in (_CAMERA, _POSITION):
        if tag in fields:
            inner, _ = _fields(block, order, _pointed(block, order, fields[tag]))
            kept = {name: field for name, field in inner.items() if name != _SHARED}
            found[tag] = {name: _entry(block, order, field) for name, field in kept.items()}
    return found


def payload(block: bytes, tag: int) -> bytes:
    """Return the bytes of a tag of the first directory; none where it is not there."""
    order, start = _start(block)
    fields, _ = _fields(block, order, start)
    return _entry(block, order, fields[tag]).payload if tag in fields else b""


def packed(directories: Directories) -> bytes:
    """Return EXIF, little-endian, of what `unpacked` gives; b"" of nothing."""
    if not any(directories.values()):
        return b""
    behind, pointers = placed(directories, 8)
    start = 8 + len(behind)
    first = directories[0] | pointers
    return struct.pack("<2sHI", b"II", 42, start) + behind + tiff.directory("<", first, start)


def placed(
    directories: Directories, start: int, *, big: bool = False
) -> tuple[bytes, dict[int, Entry]]:
    """Return the bytes of all but the first directory, laid from `start` on, and their pointers.

    `big` is for a BigTIFF.
    """
    data, pointers = b"", {}
    for tag, entries in directories.items():
        if tag and entries:
            at = start + len(data)
            pointers[tag] = tiff.wide_longs("<", at) if big else tiff.longs("<", at)
            data += tiff.directory("<", entries, at, big=big)
            data += bytes(len(data) % 2)
    return data, pointers


def value(entry: Entry) -> float:
    """Return the number, or fraction, of a little-endian tag."""
    if entry.kind == 5:
        top, bottom = struct.unpack("<II", entry.payload[:8])
        return top / bottom if bottom else 0.0
    return float(struct.unpack("<H" if entry.kind == 3 else "<I", entry.payload[:4])[0])


def fraction(number: float) -> Entry:
    """Return a tag of one fraction of ten thousandths."""
    return Entry(5, 1, struct.pack("<II", round(number * 10000), 10000))


def _start(block: bytes | bytearray) -> tuple[str, int]:
    """Return the byte order and where the first directory begins."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None:
        raise struct.error("no byte order")
    (version,) = struct.unpack_from(order + "H", block, 2)
    (start,) = struct.unpack_from(
        order + ("Q" if version == 43 else "I"), block, 8 if version == 43 else 4
    )
    return order, start


def _fields(block: bytes | bytearray, order: str, start: int) -> tuple[dict[int, _Field], int]:
    """Return where the tags of a directory are, and its pointer to the next one."""
    big = struct.unpack_from(order + "H", block, 2)[0] == 43
    count, word, entry_bytes = ("Q", "Q", 20) if big else ("H", "I", 12)
    (num,) = struct.unpack_from(order + count, block, start)
    at = start + struct.calcsize(order + count)
    fields = {}
    for _ in range(min(num, 4096)):
        tag, kind, num_values = struct.unpack_from(order + "HH" + word, block, at)
        value_at = at + 4 + struct.calcsize(order + word)
        field = _Field(at, kind, num_values, value_at)
        if field.num_bytes > struct.calcsize(order + word):
            (value_at,) = struct.unpack_from(order + word, block, value_at)
            field = _Field(at, kind, num_values, value_at)
        fields[tag] = field
        at += entry_bytes
    return fields, at


def _pointed(block: bytes | bytearray, order: str, field: _Field) -> int:
    """Return a single number."""
    letter = {3: "H", 16: "Q", 18: "Q"}.get(field.kind, "I")
    return int(struct.unpack_from(order + letter, block, field.value_at)[0])


def _entry(block: bytes, order: str, field: _Field) -> Entry:
    values = block[field.value_at : field.value_at + field.num_bytes]
    if len(values) < field.num_bytes or field.kind not in _UNIT_BYTES:
        raise struct.error("a tag is cut off")
    if order == ">":
        values = np.frombuffer(values, f">u{_UNIT_BYTES[field.kind]}").byteswap().tobytes()
    return Entry(field.kind, field.num_values, values)
