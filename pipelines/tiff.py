"""The tags of a TIFF, read and written; nothing here decodes an image.

Source: TIFF 6.0, section 2; BigTIFF (version 43) widens counts and offsets to 8 bytes. EXIF is laid
out the same way.
"""

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from pipelines.errors import ImageError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, NUM_SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 274, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 284, 317, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, PROFILE = 338, 339, 34675
_FAX, _PALETTE, _JPEG, _YCBCR = (292, 293), (320,), (347,), (529, 530, 531, 532)

DECODING: Final = (
    *(BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, NUM_SAMPLES, PREDICTOR, EXTRA_SAMPLES),
    *(SAMPLE_FORMAT, *_FAX, *_PALETTE, *_JPEG, *_YCBCR),
)
"""Tags that say how a strip or tile is decoded, whatever its size and place."""
_LAYOUT: Final = (
    *(WIDTH, HEIGHT, ORIENTATION, PLANAR, PROFILE, ROWS_PER_STRIP, STRIP_OFFSETS, STRIP_BYTES),
    *(TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES),
)
_FORMATS: Final = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q", 6: "B", 7: "B", 13: "I", 16: "Q"}
"""struct letter of each type of value; a fraction is read as one number."""


@dataclass(frozen=True)
class Entry:
    """A tag of a TIFF."""

    kind: int
    """Type of the values, as the standard numbers them."""
    num_values: int
    payload: bytes
    """The values, in the byte order of the file."""


@dataclass(frozen=True)
class Tiff:
    """The first page of a TIFF, its tags parsed and nothing decoded."""

    data: bytes
    order: str
    """Byte order as struct writes it, "<" or ">"."""
    entries: dict[int, Entry]

    def values(self, tag: int, *missing: int) -> tuple[int, ...]:
        """Return all values of a tag; `missing`, or ImageError, where it is not there."""
        entry = self.entries.get(tag)
        if entry is None:
            if missing:
                return missing
            raise ImageError(
                f"truncated, or its header is damaged (TIFF without tag {tag}); copy it again",
                "damaged",
            )
        return struct.unpack(f"{self.order}{entry.num_values}{_FORMATS[entry.kind]}", entry.payload)

    def value(self, tag: int, *missing: int) -> int:
        """Return the first value of a tag."""
        return next(iter(self.values(tag, *missing)), 0)

    @property
    def width(self) -> int:
        """Stored columns."""
        return self.value(WIDTH)

    @property
    def height(self) -> int:
        """Stored rows."""
        return self.value(HEIGHT)

    @property
    def bits(self) -> int:
        """Bits of a sample."""
        return self.value(BITS, 1)

    @property
    def num_samples(self) -> int:
        """Samples of a pixel, alpha and the like among them."""
        return self.value(NUM_SAMPLES, 1)

    @property
    def photometric(self) -> int:
        """What the samples mean."""
        return self.value(PHOTOMETRIC)

    @property
    def compression(self) -> int:
        """How the strips or tiles are packed."""
        return self.value(COMPRESSION, 1)

    @property
    def planar(self) -> bool:
        """Whether each kind of sample has strips or tiles of its own."""
        return self.value(PLANAR, 1) == 2

    @property
    def profile(self) -> bytes | None:
        """Colour profile."""
        return self.entries[PROFILE].payload if PROFILE in self.entries else None


def parse(data: bytes) -> Tiff:
    """Parse the tags used here of the first page, or of EXIF.

    Raises struct.error where the file ends too early.
    """
    order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    count, word, start_at, entry_bytes = ("Q", "Q", 8, 20) if version == 43 else ("H", "I", 4, 12)
    (start,) = struct.unpack_from(order + word, data, start_at)
    (num_entries,) = struct.unpack_from(order + count, data, start)
    start += struct.calcsize(order + count)
    entries = {}
    for offset in range(start, start + num_entries * entry_bytes, entry_bytes):
        tag, kind, num_values = struct.unpack_from(order + "HH" + word, data, offset)
        at = offset + 4 + struct.calcsize(word)
        num_bytes = num_values * struct.calcsize("=" + _FORMATS.get(kind, "B"))
        if num_bytes > struct.calcsize("=" + word):
            (at,) = struct.unpack_from(order + word, data, at)
        payload = data[at : at + num_bytes]
        if kind in _FORMATS and (tag in DECODING or tag in _LAYOUT):
            if len(payload) < num_bytes:
                raise struct.error(f"tag {tag} is cut off")
            entries[tag] = Entry(kind, num_values, payload)
    return Tiff(data, order, entries)


def with_entries(data: bytes, extra: dict[int, Entry]) -> bytes:
    """Return a classic TIFF of one page with tags added, in its byte order."""
    tiff = parse(data)
    start = len(data) + len(data) % 2
    added = directory(tiff.order, tiff.entries | extra, start)
    pointer = struct.pack(tiff.order + "I", start)
    return data[:4] + pointer + data[8:] + bytes(len(data) % 2) + added


def with_profile(data: bytes, profile: bytes) -> bytes:
    """Return a classic TIFF of one page with a colour profile added."""
    return with_entries(data, {PROFILE: Entry(7, len(profile), profile)})


def excerpt(
    order: str,
    entries: dict[int, Entry],
    size: tuple[int, int],
    rows_per_strip: int,
    blobs: list[bytes],
) -> bytes:
    """Return a small TIFF of some strips, of `size` (height, width)."""
    num_bytes = [len(blob) for blob in blobs]
    *offsets, end = accumulate(num_bytes, initial=8)
    start = end + end % 2
    tags = directory(
        order,
        entries
        | {
            HEIGHT: longs(order, size[0]),
            WIDTH: longs(order, size[1]),
            ROWS_PER_STRIP: longs(order, rows_per_strip),
            STRIP_OFFSETS: longs(order, *offsets),
            STRIP_BYTES: longs(order, *num_bytes),
        },
        start,
    )
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return b"".join((header, *blobs, bytes(end % 2), tags))


def shorts(order: str, *values: int) -> Entry:
    """Return a tag of numbers below 65536."""
    return Entry(3, len(values), struct.pack(f"{order}{len(values)}H", *values))


def longs(order: str, *values: int) -> Entry:
    """Return a tag of numbers."""
    return Entry(4, len(values), struct.pack(f"{order}{len(values)}I", *values))


def wide_longs(order: str, *values: int) -> Entry:
    """Return a tag of numbers of 8 bytes, for BigTIFF alone."""
    return Entry(16, len(values), struct.pack(f"{order}{len(values)}Q", *values))


def directory(order: str, entries: dict[int, Entry], start: int, *, big: bool = False) -> bytes:
    """Return the bytes of a directory that begins at `start`, its longer values behind it.

    `big` is that of BigTIFF, whose counts and offsets have 8 bytes.
    """
    count, word = ("Q", "Q") if big else ("H", "I")
    inline, entry_bytes = struct.calcsize("=" + word), 20 if big else 12
    rows, behind = [], bytearray()
    after = start + struct.calcsize("=" + count) + entry_bytes * len(entries) + inline
    for tag, entry in sorted(entries.items()):
        field = entry.payload.ljust(inline, b"\0")
        if len(field) > inline:
            field = struct.pack(order + word, after + len(behind))
            behind += entry.payload + bytes(len(entry.payload) % 2)
        rows.append(struct.pack(order + "HH" + word, tag, entry.kind, entry.num_values) + field)
    number = struct.pack(order + count, len(entries))
    return b"".join((number, *rows, bytes(inline), bytes(behind)))
