"""Bytes <-> arrays: the only file that calls a codec.

The header is read before the codec sees the file (`pipelines.headers`). Of a file with several
pages or frames the first is taken. Colour profiles are not applied and not kept, nor is the
transparent colour of a grey PNG.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pipelines import headers
from pipelines.errors import ImageError

# A broken file is an ImageError with a reason, not also a line on stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MAX_PIXELS: Final = 2**28
"""Height times width above which a file is refused before it is decoded."""

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
    side_px: int
    """Longest side that can be written and read again."""
    parameters: tuple[int, ...] = ()
    """Settings of the codec, flag and value by turns."""


_JPEG = _Format(
    bits=8,
    alpha=False,
    side_px=65500,
    parameters=(
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ),
)
_TIFF = _Format(bits=16, alpha=True, side_px=2**20)
_FORMATS: Final = {
    ".png": _Format(bits=16, alpha=True, side_px=2**20),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _Format(
        bits=8,
        alpha=True,
        side_px=16383,
        parameters=(
            cv2.IMWRITE_WEBP_LOSSLESS_MODE,
            cv2.IMWRITE_WEBP_LOSSLESS_PRESERVE_COLOR,
        ),
    ),
    ".bmp": _Format(bits=8, alpha=True, side_px=2**20),
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


def decode(data: bytes) -> Photo:
    """Decode an image file in its own bit depth, its EXIF orientation applied.

    Grey stays one channel, palette and CMYK become RGB, alpha is split off.
    """
    header = headers.read_header(data)
    num_pixels = header.width * header.height
    if num_pixels > MAX_PIXELS:
        raise ImageError(
            f"{header.width} x {header.height} = {num_pixels} pixels, above the limit of "
            f"{MAX_PIXELS}; cut the image into smaller ones"
        )
    if header.patch:
        offset, new = header.patch
        data = data[:offset] + new + data[offset + len(new) :]
    samples, orientation = _call_decoder(data)
    if samples.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"samples are {samples.dtype}; save it with 8 or 16 bits a channel")
    num_channels = 1 if samples.ndim == 2 else samples.shape[2]
    if header.grey or num_channels == 1:
        pixels = samples.reshape(*samples.shape[:2], -1)[:, :, :1]
    else:
        pixels = cv2.cvtColor(
            samples, cv2.COLOR_BGR2RGB if num_channels == 3 else cv2.COLOR_BGRA2RGB
        )
    upright = _UPRIGHT.get(orientation, np.ascontiguousarray)
    return Photo(
        pixels=np.ascontiguousarray(upright(pixels)),
        alpha=np.ascontiguousarray(upright(samples[:, :, 3]))
        if num_channels == 4 and not header.opaque
        else None,
    )


def encode(photo: Photo, suffix: str) -> bytes:
    """Encode as the format of `suffix`: without loss, but for JPEG.

    Alpha is kept where the format has a place for it (all but JPEG); grey with alpha is then
    written as RGB with alpha, which the codec needs. WebP leaves out alpha that is opaque
    everywhere. 16-bit pixels go into PNG and TIFF alone.
    """
    form = _FORMATS.get(suffix.lower())
    if form is None:
        raise ImageError(f"suffix {suffix!r} is none of {', '.join(SUFFIXES)}; choose one of them")
    pixels = photo.pixels
    if pixels.dtype.itemsize * 8 > form.bits:
        raise ImageError(f"16-bit pixels do not fit into {suffix}; use .png or .tif")
    if max(pixels.shape) > form.side_px:
        raise ImageError(
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels, but {suffix} holds {form.side_px} a "
            "side; use .png or .tif"
        )
    if photo.alpha is not None and form.alpha:
        samples: Any = np.dstack((photo.rgb[:, :, ::-1], photo.alpha))
    elif pixels.shape[2] == 3:
        samples = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    else:
        samples = pixels
    try:
        done, encoded = cv2.imencode(suffix.lower(), samples, form.parameters)
    except cv2.error as error:
        raise ImageError(f"cannot be written as {suffix}: {error.err}; use .png") from error
    if not done:
        raise ImageError(f"cannot be written as {suffix}; use .png")
    return encoded.tobytes()


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
    _, encoded = cv2.imencode(".jpg", samples, [cv2.IMWRITE_JPEG_QUALITY, quality])
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    decoded = cv2.imdecode(encoded, flag)
    return np.asarray(decoded, np.uint8).reshape(pixels.shape)


def _call_decoder(data: bytes) -> tuple[Any, int]:
    """Return samples (H, W) or (H, W, C) in BGR order, and the EXIF orientation still to apply."""
    try:
        decoded: tuple[Any, ...] = cv2.imdecodeWithMetadata(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED
        )
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}; save it again") from error
    samples, kinds, blobs = decoded
    if samples is None:
        raise ImageError("truncated, damaged or of a rare kind; copy it again or save it as PNG")
    exif = dict(zip(kinds, blobs, strict=True)).get(cv2.IMAGE_METADATA_EXIF)
    return samples, 1 if exif is None else headers.read_orientation(exif.tobytes())


_UPRIGHT: Final[dict[int, Callable[[Any], Any]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What undoes each EXIF orientation, on (H, W) or (H, W, C)."""
