"""A photo file and its restored like: what is not restored is handed on."""

from typing import Any, Final

import cv2
import numpy as np

from pipelines import headers, images, metadata
from pipelines.errors import ImageError
from pipelines.images import Photo
from pipelines.tiff import Tiff

_CMYK = 5
"""Photometric kind of a TIFF."""
SHIFT_LEVELS: Final = 5.0
"""Change of a channel's mean, in 8-bit levels, above which `shift` says so.

Noise, rain and blur have means within about 2 levels of the clean photo's. Whoever makes light or
takes haze away has to move more: so it is said, and the photo is not bad."""


def opened(data: bytes) -> Photo:
    """Decode a photo for restoring: upright, its levels as stored, its profile kept beside them.

    Inks become colours of a screen by their profile, where there is one that can be applied.
    """
    header = headers.read_header(data)
    inks = header.photometric == _CMYK if isinstance(header, Tiff) else header.cmyk
    if inks:
        try:
            return images.decode(data, "srgb")
        except ImageError as error:
            if error.kind in ("damaged", "too large"):
                raise
    return images.decode(data)


def closed(photo: Photo, suffix: str, original: bytes) -> bytes:
    """Encode a restored photo with the EXIF, XMP and resolution of the file it was opened from.

    Sizes that are stated become those of the restored photo; it is upright, so says its
    orientation; the thumbnail, which would show the photo before, is left out.
    """
    return metadata.carried(original, images.encode(photo, suffix))


def shift(before: Any, after: Any) -> str:
    """Return a remark on pixels (H, W, C) of one type whose mean colour moved; "" for the usual."""
    unit = 255 / np.iinfo(before.dtype).max
    moved = [
        (late - early) * unit for early, late in zip(cv2.mean(before), cv2.mean(after), strict=True)
    ]
    most = max(moved, key=abs)
    return f"mean colour moved by {most:+.1f} levels" if abs(most) > SHIFT_LEVELS else ""
