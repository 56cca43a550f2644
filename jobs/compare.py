"""Photos before and after beside the target of laformer restore: one page, light enough to send."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from jobs import page
from jobs.page import Page, Pair
from pipelines import faithful, huge, images, profiles, storage
from pipelines.errors import ImageError, StorageError
from pipelines.images import Photo

NAME: Final = "compare.html"
"""Name of the page, in the folder of the restored photos."""
SHOWN_PX: Final = 512
"""Longest side of a picture; 50 photos are then 5 to 10 MB."""
QUALITY: Final = 80
"""Quality of the pictures, which are JPEG."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a page is about."""

    source: str
    """uri of the folder that was read."""
    target: str
    """uri of the folder that was written."""
    model: str
    """The version that restored."""


def write(compared: Compared, receipts: Sequence[dict[str, Any]], most: int) -> str | None:
    """Write the page of the first restored photos, at most `most`; return its uri.

    A large photo is shown as its centre, at full size: shrunk, before and after look the same.
    Photos that cannot be held, or are gone since, are left out; without any there is no page.
    """
    pairs: list[Pair] = []
    restored = [row for row in receipts if row["status"] == "restored"]
    for row in sorted(restored, key=lambda row: str(row["key"])):
        if len(pairs) == most:
            break
        pair = pair_of(compared, row)
        if pair is not None:
            pairs.append(pair)
    if not pairs:
        return None
    uri = storage.join(compared.target, NAME)
    storage.put(uri, page.render(page_of(compared, pairs, len(restored))).encode())
    return uri


def pair_of(compared: Compared, row: dict[str, Any]) -> Pair | None:
    """Return a photo before and after, enlarged where the restored one is larger."""
    try:
        before = opened(storage.join(compared.source, row["key"]))
        after = opened(storage.join(compared.target, row["target_key"]))
    except (ImageError, StorageError):
        return None
    scale = after.shape[0] // before.shape[0]
    small = centre(before, max(1, SHOWN_PX // scale))
    large = centre(after, max(1, SHOWN_PX // scale) * scale)
    if scale > 1:
        size = (large.shape[1], large.shape[0])
        small = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    return Pair(
        key=row["key"],
        before=jpeg(small),
        after=jpeg(large),
        truth=None,
        before_psnr_db=None,
        after_psnr_db=None,
        media_type="image/jpeg",
    )


def opened(uri: str) -> Any:
    """Return (H, W, 3) uint8 as a screen shows it, over white where it is transparent."""
    if huge.huge_size(uri):
        raise ImageError("too large for a page", "too large")
    return over_white(faithful.opened(storage.get(uri)))


def over_white(photo: Photo) -> Any:
    """Return (H, W, 3) uint8 sRGB; a profile that cannot be applied is passed over."""
    pixels = photo.rgb
    if photo.profile is not None:
        try:
            pixels = profiles.to_srgb(photo.pixels, photo.profile)
        except ImageError:
            pixels = photo.rgb
    shown = images.eight_bit(pixels)
    shown = np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown
    if photo.alpha is None:
        return shown
    share = images.eight_bit(photo.alpha)[:, :, None] / np.float32(255)
    return np.rint(shown * share + 255 * (1 - share)).astype(np.uint8)


def centre(pixels: Any, most_px: int) -> Any:
    """Return the middle of an image, at most so many pixels a side."""
    top, left = (max(0, (side - most_px) // 2) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + most_px, left : left + most_px])


def jpeg(pixels: Any) -> bytes:
    """Encode for the page."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def page_of(compared: Compared, pairs: list[Pair], num_restored: int) -> Page:
    """Return the page: the photos and where they came from."""
    return Page(
        title="Before and after",
        summary=(
            f"{len(pairs)} of {num_restored} restored photos. Drag the line over a photo. "
            f"Of a photo above {SHOWN_PX} pixels a side it is the centre, at full size."
        ),
        facts=(
            ("Model", compared.model),
            ("Source", compared.source),
            ("Target", compared.target),
        ),
        pairs=tuple(pairs),
        scores=(),
        curves=(),
        commands=(),
    )
