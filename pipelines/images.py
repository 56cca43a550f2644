"""Files <-> photos, in their own bit depth.

The codecs are called in `pipelines.codec` alone, and what a file says of itself is read before
(`pipelines.headers`). Of a file with several pages or frames the first is taken, of an animated PNG
its still picture. Brightness that is said without a profile (gAMA, cICP) is not applied.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pipelines import codec, grey, headers, profiles, regions, segments, tiff
from pipelines.config import Profile
from pipelines.errors import ImageError
from pipelines.headers import Header
from pipelines.regions import Region
from pipelines.tiff import Tiff

MAX_PIXELS: Final = 2**28
"""Height times width above which a file is refused before it is decoded."""

MAX_SIDE_PX: Final = 2**20
"""Longest side that is decoded: the limit of OpenCV."""

JPEG_QUALITY: Final = 95
"""Quality of a written JPEG, 0 to 100, always without chroma subsampling (4:4:4)."""

Samples = npt.NDArray[np.uint8 | np.uint16]
"""Samples in their stored bit depth: 0 to 255 or 0 to 65535."""


@dataclass(frozen=True)
class _Format:
    """What a file format can hold, and how it is written."""

    bits: int
    """Most bits of a sample."""
    alpha: bool
    """Whether there is a place for alpha."""
    profile: bool
    """Whether there is a place for a colour profile."""
    side_px: int
    """Longest side that can be written and read again."""
    parameters: tuple[int, ...] = ()
    """Settings of the codec, flag and value by turns."""


_JPEG = _Format(
    bits=8,
    alpha=False,
    profile=True,
    side_px=65500,
    parameters=(
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ),
)
_TIFF = _Format(bits=16, alpha=True, profile=True, side_px=2**20)
_FORMATS: Final = {
    ".png": _Format(bits=16, alpha=True, profile=True, side_px=2**20),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _Format(
        bits=8,
        alpha=True,
        profile=True,
        side_px=16383,
        parameters=(
            cv2.IMWRITE_WEBP_LOSSLESS_MODE,
            cv2.IMWRITE_WEBP_LOSSLESS_PRESERVE_COLOR,
        ),
    ),
    ".bmp": _Format(bits=8, alpha=True, profile=False, side_px=2**20),
}
SUFFIXES: Final = tuple(_FORMATS)
"""Endings of the files that can be read and written, in lower case."""


@dataclass(frozen=True, eq=False)
class Photo:
    """An image in its stored bit depth; the dtype tells the range."""

    pixels: Samples
    """(H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16."""
    alpha: Samples | None = None
    """(H, W) of the same dtype, not multiplied into the pixels; None is opaque."""
    profile: bytes | None = None
    """Colour profile (ICC) of the pixels as the file holds it; None is sRGB or unknown."""

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ImageError(f"pixels are {pixels.dtype}; scale and round to uint8 or uint16")
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
            raise ImageError(f"pixels have shape {pixels.shape}; give (H, W, 3) or (H, W, 1)")
        if alpha is not None and (alpha.shape, alpha.dtype) != (pixels.shape[:2], pixels.dtype):
            raise ImageError(
                f"alpha is {alpha.shape} {alpha.dtype}; "
                f"give {pixels.shape[:2]} {pixels.dtype} like the pixels"
            )

    @property
    def rgb(self) -> Samples:
        """(H, W, 3) contiguous, of the same dtype; grey is repeated."""
        if self.pixels.shape[2] == 1:
            return np.repeat(self.pixels, 3, axis=2)
        return np.ascontiguousarray(self.pixels)


def decode(data: bytes, profile: Profile = "keep", max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode an image file in its own bit depth, its EXIF orientation applied.

    Grey stays one channel, palette and CMYK become RGB, alpha is split off. With profile="srgb" an
    embedded colour profile is applied (`profiles.to_srgb`) and gone. With "keep" the pixels stay as
    stored; CMYK then becomes RGB without its profile, and a profile that does not fit is left out.
    Above `max_pixels` (height times width) a file is refused before any memory is taken.
    """
    return _decode(data, None, profile, max_pixels)


def decode_region(
    data: bytes, region: Region, profile: Profile = "keep", max_pixels: int = MAX_PIXELS
) -> Photo:
    """Decode a rectangle of the upright image: what cutting it from `decode` gives.

    A TIFF costs the strips or tiles that are touched, and `max_pixels` then bounds the region, not
    the file. The codecs of PNG, JPEG, WebP and BMP decode the whole image.
    """
    return _decode(data, region, profile, max_pixels)


def decode_page(
    page: Tiff, region: Region, profile: Profile = "keep", max_pixels: int = MAX_PIXELS
) -> Photo:
    """Do as `decode_region` for a TIFF whose tags are parsed, its data perhaps read in pieces."""
    return _photo(page, region, profile, max_pixels)


def encode(photo: Photo, suffix: str) -> bytes:
    """Encode as the format of `suffix`: without loss, but for JPEG.

    Alpha is kept where the format has a place for it (all but JPEG); grey with alpha stays grey in
    PNG, and is written as RGB with alpha elsewhere, which the codec needs. WebP leaves out alpha
    that is opaque everywhere. 16-bit pixels go into PNG and TIFF alone. A colour profile is written
    too, a grey one as its like for RGB where grey is written as RGB; BMP has no place for any but
    sRGB.
    """
    suffix = suffix.lower()
    form = _FORMATS.get(suffix)
    if form is None:
        raise ImageError(f"suffix {suffix!r} is none of {', '.join(SUFFIXES)}; choose one of them")
    _check_fits(photo, suffix, form)
    if suffix == ".png" and photo.alpha is not None and photo.pixels.shape[2] == 1:
        fitting = None if photo.profile is None else profiles.fitted(photo.profile, 1)
        return grey.encode(photo.pixels, photo.alpha, fitting)
    samples = _to_codec(photo, form)
    profile = photo.profile
    if profile is not None:
        profile = profiles.fitted(profile, 1 if samples.shape[2] == 1 and suffix != ".webp" else 3)
    if form is _TIFF:
        encoded = codec.encode(samples, suffix, form.parameters)
        return tiff.with_profile(encoded, profile) if profile is not None else encoded
    return codec.encode(samples, suffix, form.parameters, profile)


def _check_fits(photo: Photo, suffix: str, form: _Format) -> None:
    pixels = photo.pixels
    if pixels.dtype.itemsize * 8 > form.bits:
        raise ImageError(f"16-bit pixels do not fit into {suffix}; use .png or .tif")
    if max(pixels.shape) > form.side_px:
        raise ImageError(
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels, but {suffix} holds {form.side_px} a "
            "side; use .png or .tif"
        )
    if photo.profile is not None and not form.profile and not profiles.is_srgb(photo.profile):
        raise ImageError(f"{suffix} has no place for a colour profile; use .png")


def _to_codec(photo: Photo, form: _Format) -> Any:
    """Return (H, W, 1), (H, W, 3) or (H, W, 4) in the order of OpenCV."""
    if photo.alpha is not None and form.alpha:
        return np.dstack((photo.rgb[:, :, ::-1], photo.alpha))
    if photo.pixels.shape[2] == 3:
        return cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2BGR)
    return photo.pixels


def eight_bit(pixels: Samples) -> npt.NDArray[np.uint8]:
    """Return uint8 pixels as they are, 16-bit levels rounded to the nearest of 8 bits."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def recompress(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Return what JPEG of a quality (1 to 100, libjpeg's scale) leaves of RGB or grey pixels.

    (H, W, 3) with chroma at half size (4:2:0), or (H, W, 1); the same shape comes back.
    """
    if not 1 <= quality <= 100:
        raise ImageError(f"JPEG quality {quality} is outside 1 to 100; use for example 40")
    grey = pixels.shape[2] == 1
    samples = pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    encoded = codec.encode(samples, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, quality))
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    decoded = codec.decode_plain(encoded, flag)
    return np.asarray(decoded, np.uint8).reshape(pixels.shape)


@dataclass(frozen=True, eq=False)
class _Stored:
    """Samples as they lie in the file, or a region of them."""

    pixels: Samples
    """(H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) CMYK, where 0 is no ink."""
    alpha: Samples | None
    profile: bytes | None
    """b"" is a damaged one."""
    orientation: int


def _decode(data: bytes, region: Region | None, profile: Profile, max_pixels: int) -> Photo:
    return _photo(headers.read_header(data), region, profile, max_pixels)


def _photo(
    header: Header | Tiff, region: Region | None, profile: Profile, max_pixels: int
) -> Photo:
    if isinstance(header, Tiff):
        stored = _read_tiff(header, region, max_pixels)
    else:
        _check_size(header.height, header.width, max_pixels)
        stored = _read_other(header, region, apply_profile=profile == "srgb")
    pixels, found = stored.pixels, stored.profile
    if profile == "srgb" and found is not None:
        pixels, found = profiles.to_srgb(pixels, found), None
    elif found is not None and not profiles.fits(found, pixels.shape[2]):
        found = None
    if pixels.shape[2] == 4:
        pixels, found = _without_inks(pixels), None
    return Photo(
        pixels=regions.upright(pixels, stored.orientation),
        alpha=None if stored.alpha is None else regions.upright(stored.alpha, stored.orientation),
        profile=found,
    )


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if min(height, width) < 1 or max(height, width) > MAX_SIDE_PX:
        raise ImageError(
            f"{width} x {height} pixels; a side has from 1 to {MAX_SIDE_PX}", "too large"
        )
    if height * width > max_pixels:
        raise ImageError(
            f"{width} x {height} = {height * width} pixels, above the limit of "
            f"{max_pixels}; cut the image into smaller ones",
            kind="too large",
        )


def _read_tiff(page: Tiff, region: Region | None, max_pixels: int) -> _Stored:
    orientation, (height, width) = page.value(tiff.ORIENTATION, 1), (page.height, page.width)
    if region is None:
        _check_size(height, width, max_pixels)
        area = Region(0, 0, height, width)
    else:
        _check_size(region.height, region.width, max_pixels)
        region.check_inside(*regions.upright_size(height, width, orientation))
        area = regions.stored(region, height, width, orientation)
    samples = segments.read(page, area, max_pixels, codec.decode_plain)
    if segments.is_plain(page):
        pixels, alpha = segments.interpret(page, samples)
    else:
        pixels, alpha = _split(samples)
    return _Stored(pixels, alpha, page.profile, orientation)


def _read_other(header: Header, region: Region | None, *, apply_profile: bool) -> _Stored:
    samples, metadata = codec.decode(header)
    exif = metadata.get(cv2.IMAGE_METADATA_EXIF, header.exif)
    profile = metadata.get(cv2.IMAGE_METADATA_ICCP, header.profile)
    orientation = headers.read_orientation(exif) if exif else 1
    cmyk = header.cmyk and apply_profile and profile is not None
    if cmyk:
        samples = codec.decode_cmyk(header)
    if region is not None:
        height, width = samples.shape[:2]
        region.check_inside(*regions.upright_size(height, width, orientation))
        samples = regions.stored(region, height, width, orientation).cut(samples)
    pixels, alpha = (samples, None) if cmyk else _split(samples, grey=header.grey)
    if header.transparent is not None:
        opaque = pixels[:, :, 0] != header.transparent
        alpha = opaque.astype(pixels.dtype) * np.iinfo(pixels.dtype).max
    return _Stored(pixels, alpha, profile if cmyk or not header.cmyk else None, orientation)


def _split(samples: Any, *, grey: bool = False) -> tuple[Samples, Samples | None]:
    """Return pixels and alpha of OpenCV's samples: (H, W) grey or (H, W, 3 or 4) in BGR order."""
    num_channels = 1 if samples.ndim == 2 else samples.shape[2]
    alpha = samples[:, :, 3] if num_channels == 4 else None
    if grey or num_channels == 1:
        return samples.reshape(*samples.shape[:2], -1)[:, :, :1], alpha
    code = cv2.COLOR_BGR2RGB if num_channels == 3 else cv2.COLOR_BGRA2RGB
    return cv2.cvtColor(samples, code), alpha


def _without_inks(pixels: Samples) -> Samples:
    """Return RGB of (H, W, 4) CMYK by the plain product of paper that is left."""
    top = np.iinfo(pixels.dtype).max
    left = (top - pixels).astype(np.uint32)
    return (left[:, :, :3] * left[:, :, 3:] // top).astype(pixels.dtype)
