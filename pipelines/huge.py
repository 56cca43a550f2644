"""Photos too large for memory: from a TIFF in tiles or strips to a TIFF in tiles.

A photo of more than `images.MAX_PIXELS` pixels is read a band of rows at a time and restored in
tiles. Exact stripes would keep feature maps of the whole photo: 10 * dim bytes a pixel on disk,
120 GB for a gigapixel under `tiny` and 480 GB under `base`, read and written in every walk over
them. So the tiles of `InferenceConfig` stand in for them here, and the receipt says so.
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np

from pipelines import headers, images, metadata, regions, storage, tiff, uploads
from pipelines.degradations.bicubic import imresize
from pipelines.errors import ImageError, StorageError
from pipelines.metadata import Metadata
from pipelines.mosaic import Mosaic
from pipelines.regions import Region
from pipelines.tiff import Tiff

SUFFIXES: Final = (".tif", ".tiff")
"""Endings of the files that can be restored without being held."""
_MARGIN: Final = 4
"""Rows around a band of alpha that bicubic enlargement looks at, and more."""

Pixels: TypeAlias = np.ndarray[Any, Any]
Rows: TypeAlias = tuple[int, int]
"""The first row of an upright photo, and the one after the last."""


class Parts(Protocol):
    """Restores an image that is not held."""

    def __call__(
        self,
        source: Callable[[int, int, int, int], Pixels],
        sink: Callable[[Pixels], None],
        shape: tuple[int, int, int],
        rows: Rows | None = None,
        /,
    ) -> str:
        """Restore an image (H, W, C), or rows of it; return how.

        `source` gives a rectangle (top, left, height, width), `sink` takes the rows in order.
        """


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of a huge photo."""

    height: int
    """Rows of the photo that was read, upright."""
    width: int
    """Columns of the photo that was read, upright."""
    out_height: int
    """Rows of the photo that was written."""
    out_width: int
    """Columns of the photo that was written."""
    num_bytes: int
    """Size of the file that was written."""
    sha256: str
    """Of the file that was written."""
    how: str
    """How the network went through it."""


def huge_size(uri: str) -> tuple[int, int] | None:
    """Return height and width of a TIFF above `images.MAX_PIXELS`, upright; None for all else.

    Reads its first tags alone.
    """
    if not uri.lower().endswith(SUFFIXES):
        return None
    try:
        height, width = size_of(lambda at, num: storage.get_range(uri, at, num))
    except (struct.error, KeyError, StorageError):
        return None  # whoever reads it whole says what is wrong with it
    return (height, width) if height * width > images.MAX_PIXELS else None


def size_of(read: Callable[[int, int], bytes]) -> tuple[int, int]:
    """Return height and width of the first page of a TIFF, upright, given what reads its bytes."""
    head = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "<")
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    count, word, entry_bytes = ("Q", "Q", 20) if big else ("H", "I", 12)
    (start,) = struct.unpack_from(order + word, head, 8 if big else 4)
    (num,) = struct.unpack(order + count, read(start, struct.calcsize("<" + count)))
    entries = read(start + struct.calcsize("<" + count), min(num, 4096) * entry_bytes)
    sides = {tiff.ORIENTATION: 1}
    for at in range(0, len(entries), entry_bytes):
        tag, kind = struct.unpack_from(order + "HH", entries, at)
        if tag in (tiff.WIDTH, tiff.HEIGHT, tiff.ORIENTATION):
            letter = {3: "H", 16: "Q"}.get(kind, "I")
            value_at = at + 4 + struct.calcsize("<" + word)
            (sides[tag],) = struct.unpack_from(order + letter, entries, value_at)
    height, width = sides[tiff.HEIGHT], sides[tiff.WIDTH]
    return regions.upright_size(height, width, sides[tiff.ORIENTATION])


def restore_file(source: str, target: str, parts: Parts, rows: Rows | None = None) -> Written:
    """Restore a TIFF that is too large to be held, from uri to uri; the target whole or not at all.

    With `rows` it has the restored ones of these alone. A remote source is copied to the temporary
    folder first, and a remote target is made there. Raises ImageError for what cannot be read by
    regions, or goes into another format.
    """
    if not target.lower().endswith(SUFFIXES):
        raise ImageError(f"{target} is no TIFF, and too large for anything else; use .tif")
    with uploads.local_copy(source) as path, uploads.scratch_file(target) as scratch:
        bands = Bands.of(path)
        height, width = bands.size
        with scratch.open("wb") as file:
            picture = Picture(bands, file, rows or (0, height))
            how = parts(bands.cut, picture.write, (height, width, bands.channels), rows)
            picture.close()
        return Written(
            height=height,
            width=width,
            out_height=picture.done,
            out_width=picture.out_width,
            num_bytes=scratch.stat().st_size,
            sha256=sha256_of(scratch),
            how=how,
        )


def sha256_of(path: Path) -> str:
    """Return the digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileBytes:
    """The bytes of a file, read when they are asked for: no page of it stays in memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.num_bytes = path, path.stat().st_size

    def __len__(self) -> int:
        return self.num_bytes

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self.num_bytes)
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), max(0, stop - start), start)


@dataclass
class Bands:
    """A TIFF read by bands of rows; tiles that lie side by side are cut from one band."""

    page: Tiff
    said: Metadata
    band: images.Photo | None = None
    top: int = 0

    @classmethod
    def of(cls, path: Path) -> "Bands":
        """Read the tags of a file."""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # Sliced like bytes, and unpacked from like bytes.
            whole = cast(bytes, data)
            page, said = headers.read_header(whole), metadata.read(whole)
        if not isinstance(page, Tiff):
            raise ImageError("its name says TIFF, but it is another image; correct the name")
        return cls(replace(page, data=cast(bytes, FileBytes(path))), said)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        orientation = self.page.value(tiff.ORIENTATION, 1)
        return regions.upright_size(self.page.height, self.page.width, orientation)

    @property
    def channels(self) -> int:
        """Colours of a pixel."""
        return int(self.rows(0, 1).pixels.shape[2])

    @property
    def has_alpha(self) -> bool:
        """Whether there is alpha."""
        return self.rows(0, 1).alpha is not None

    def rows(self, top: int, height: int) -> images.Photo:
        """Return rows of the photo, upright; the last ones asked for are kept."""
        if self.band is None or (self.top, len(self.band.pixels)) != (top, height):
            self.band = None
            region = Region(top, 0, height, self.size[1])
            self.band, self.top = images.decode_page(self.page, region), top
        return self.band

    def cut(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Return the pixels of a rectangle."""
        return self.rows(top, height).pixels[:, left : left + width]


class Picture:
    """A TIFF that grows with the restored rows; alpha and what the file says come from `bands`."""

    def __init__(self, bands: Bands, file: Any, rows: Rows) -> None:
        self.bands, self.file, self.done, self.out_width = bands, file, 0, 0
        self.rows = rows
        self.mosaic: Mosaic | None = None
        # Bands of pixels and of alpha are asked for by turns: each has its own last band.
        self.alpha = replace(bands) if bands.has_alpha else None

    def write(self, rows: Pixels) -> None:
        """Take the next restored rows."""
        first, last = self.rows
        width = self.bands.size[1]
        scale = rows.shape[1] // width
        if self.mosaic is None:
            sides = ((last - first) * scale, width * scale)
            self.mosaic = Mosaic(self.file, *sides, with_alpha=self.alpha is not None)
        if self.alpha is not None:
            top, num = first + self.done // scale, len(rows) // scale
            rows = np.dstack((rows, alpha_rows(self.alpha, top, num, scale)))
        self.mosaic.write(rows)
        self.done, self.out_width = self.done + len(rows), rows.shape[1]

    def close(self) -> None:
        """Finish the file."""
        assert self.mosaic is not None
        said = self.bands.said.settled(self.mosaic.height, self.mosaic.width)
        self.mosaic.close(self.bands.rows(0, 1).profile, metadata.tiff_entries(said))


def alpha_rows(bands: Bands, top: int, num: int, scale: int) -> Pixels:
    """Return rows of alpha, enlarged as the whole would be: `num` times `scale` of them."""
    if scale == 1:
        return cast(Pixels, bands.rows(top, num).alpha)
    above = min(top, _MARGIN)
    below = min(bands.size[0] - top - num, _MARGIN)
    rows = bands.rows(top - above, above + num + below).alpha
    assert rows is not None
    large = imresize(rows[:, :, None], len(rows) * scale, rows.shape[1] * scale)[:, :, 0]
    return cast(Pixels, large[above * scale : (above + num) * scale])
