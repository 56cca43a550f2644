"""Colour profiles (ICC): what space a profile is of, and pixels into sRGB.

Source: ICC.1:2022; IEC 61966-2-1 (sRGB). 8-bit colour goes through Little CMS; grey, and 16-bit
colour of profiles that are a matrix and three curves, through their formula.
"""

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from pipelines.errors import ImageError

Floats = npt.NDArray[np.float64]

GREY, RGB, CMYK = "GRAY", "RGB ", "CMYK"
NUM_CHANNELS: Final = {GREY: (1,), RGB: (1, 3), CMYK: (4,)}
"""Channels of the pixels to which a profile of each space applies; grey is neutral colour too."""

_SRGB_TO_XYZ: Final = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""Linear sRGB to XYZ under D50, which is what profiles speak (Bradford adaptation)."""
_XYZ_TO_SRGB: Final = np.linalg.inv(_SRGB_TO_XYZ)
_DESCRIPTIVE: Final = (b"desc", b"cprt", b"wtpt", b"chad")
"""Tags that mean the same in a grey profile and in one for colour."""
_SAME: Final = 1 / 255
"""Difference below which a profile is sRGB: profiles that say so differ by up to 0.7 levels."""
_DAMAGED: Final = (struct.error, ValueError, KeyError)
"""What reading the tags of a damaged profile raises."""
_ROWS: Final = 64
"""Rows of a 16-bit image at a time, so that the floats stay small."""


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A profile that is three curves and a matrix."""

    curves: tuple[Floats, Floats, Floats]
    """Linear light of each of 65536 levels, per channel."""
    to_linear_srgb: Floats
    """(3, 3), from linear light of the profile."""

    def __call__(self, pixels: npt.NDArray[np.uint16]) -> Floats:
        """Return sRGB in [0, 1] of (..., 3) levels."""
        linear = [curve[pixels[..., channel]] for channel, curve in enumerate(self.curves)]
        return _srgb_curve(np.stack(linear, axis=-1) @ self.to_linear_srgb.T)


def colour_space(profile: bytes) -> str:
    """Return GREY, RGB, CMYK or another four letters; "" when it is no profile."""
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("ascii", "replace")


def fits(profile: bytes, num_channels: int) -> bool:
    """Return whether a profile can belong to pixels of so many channels."""
    return num_channels in NUM_CHANNELS.get(colour_space(profile), ())


def is_srgb(profile: bytes) -> bool:
    """Return whether it is an RGB profile under which no colour moves by an 8-bit level."""
    try:
        return colour_space(profile) == RGB and _is_srgb(profile)
    except _DAMAGED:
        return False


def fitted(profile: bytes, num_channels: int) -> bytes:
    """Return the profile for pixels of 1 or 3 channels that it is to be written beside.

    Grey written as RGB takes its curve along, for all three channels.
    """
    if fits(profile, num_channels):
        return profile
    try:
        tags_of = _tags(profile)
    except _DAMAGED as error:
        raise ImageError("its colour profile is damaged; save it without", "damaged") from error
    curve = tags_of.get(b"kTRC") if colour_space(profile) == GREY else None
    if curve is None or profile[20:24] != b"XYZ ":
        raise ImageError(
            f"colour profile of space {colour_space(profile)!r} does not fit {num_channels} "
            "channels; decode with profile='srgb'"
        )
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), _SRGB_TO_XYZ.T, strict=True)
    tags = {name: value for name, value in tags_of.items() if name in _DESCRIPTIVE}
    tags |= {name: _xyz(column) for name, column in columns}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _packed(profile[:16] + RGB.encode() + profile[20:128], tags)


def _packed(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of a header of 128 bytes, whose size is filled in, and of tags."""
    table, values = struct.pack(">I", len(tags)), b""
    start = len(header) + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    return struct.pack(">I", start + len(values)) + header[4:] + table + values


def _xyz(values: Floats) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *np.rint(values * 65536).astype(int))


def to_srgb(pixels: npt.NDArray[Any], profile: bytes) -> npt.NDArray[Any]:
    """Return (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) CMYK as sRGB of the same dtype.

    Colours that sRGB lacks are clipped (relative colorimetric, black point compensated). Pixels of
    an sRGB profile come back as they are, grey of a grey profile stays grey. 8-bit colour is
    rounded by Little CMS, to within one level of the formula; grey and 16-bit colour are the
    formula, rounded. 16-bit colour of a profile made of tables raises ImageError.
    """
    if not fits(profile, pixels.shape[2]):
        raise ImageError(
            f"colour profile of space {colour_space(profile)!r} does not fit "
            f"{pixels.shape[2]} channels; decode with profile='keep'"
        )
    try:
        space, eight_bit = colour_space(profile), pixels.dtype == np.uint8
        if space == GREY:
            return np.asarray(_grey_levels(profile, pixels.dtype.name)[pixels])
        if space == RGB and _is_srgb(profile):
            return pixels
        if eight_bit:
            return _through_lcms(pixels, profile, space)
        matrix = _matrix(profile) if space == RGB else None
    except (*_DAMAGED, ImageCms.PyCMSError) as error:
        raise ImageError(
            f"colour profile is damaged ({error}); decode with profile='keep'"
        ) from error
    if matrix is None:
        raise ImageError(
            "16-bit pixels with a colour profile made of tables; save it with 8 bits, or decode "
            "with profile='keep'"
        )
    rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    out = np.empty(rgb.shape, np.uint16)
    for row in range(0, len(rgb), _ROWS):
        out[row : row + _ROWS] = np.rint(matrix(rgb[row : row + _ROWS]) * 65535)
    return out


def _through_lcms(pixels: npt.NDArray[Any], profile: bytes, space: str) -> npt.NDArray[Any]:
    if space == RGB and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    mode = "CMYK" if space == CMYK else "RGB"
    size = pixels.shape[1], pixels.shape[0]
    image = Image.frombuffer(mode, size, np.ascontiguousarray(pixels), "raw", mode, 0, 1)
    converted = ImageCms.applyTransform(image, _transform(profile, mode))
    return np.array(converted)


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


@lru_cache(maxsize=8)
def _is_srgb(profile: bytes) -> bool:
    matrix = _matrix(profile)
    if matrix is None:
        return False
    steps = np.linspace(0, 65535, 18).astype(np.uint16)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return bool(np.abs(matrix(colours) - colours / 65535).max() < _SAME)


@lru_cache(maxsize=8)
def _matrix(profile: bytes) -> _Matrix | None:
    """Return the matrix and curves of an RGB profile; None when it is made of tables."""
    tags = _tags(profile)
    if b"A2B0" in tags or b"A2B1" in tags or profile[20:24] != b"XYZ ":
        return None
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    levels = np.arange(65536) / 65535
    red, green, blue = (_curve(tags[name], levels) for name in (b"rTRC", b"gTRC", b"bTRC"))
    return _Matrix((red, green, blue), _XYZ_TO_SRGB @ (np.array(columns).T / 65536))


@lru_cache(maxsize=8)
def _grey_levels(profile: bytes, dtype: str) -> npt.NDArray[Any]:
    """Return the sRGB level of each grey level."""
    if profile[20:24] != b"XYZ ":
        raise ImageError("grey colour profile against Lab; decode with profile='keep'")
    top = np.iinfo(dtype).max
    linear = _curve(_tags(profile)[b"kTRC"], np.arange(top + 1) / top)
    return np.rint(_srgb_curve(linear) * top).astype(dtype)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (num_tags,) = struct.unpack_from(">I", profile, 128)
    rows = (struct.unpack_from(">4sII", profile, 132 + 12 * n) for n in range(num_tags))
    return {name: profile[offset : offset + num_bytes] for name, offset, num_bytes in rows}


def _curve(tag: bytes, levels: Floats) -> Floats:
    """Return linear light in [0, 1] of levels in [0, 1]: `curv` or `para`, ICC.1 10.6 and 10.18."""
    if tag[:4] == b"curv":
        (num_values,) = struct.unpack_from(">I", tag, 8)
        table = np.array(struct.unpack_from(f">{num_values}H", tag, 12), np.float64)
        if num_values == 0:
            return levels
        if num_values == 1:
            return np.asarray(levels ** (table[0] / 256))
        return np.interp(levels, np.linspace(0, 1, num_values), table / 65535)
    if tag[:4] != b"para":
        raise ValueError(f"curve of type {tag[:4]!r}")
    (kind,) = struct.unpack_from(">H", tag, 8)
    g, a, b, c, d, e, f = _parameters(kind, tag)
    light = np.maximum(a * levels + b, 0) ** g + e
    return np.asarray(np.clip(np.where(levels >= d, light, c * levels + f), 0, 1))


def _parameters(kind: int, tag: bytes) -> tuple[float, ...]:
    """Return g, a, b, c, d, e, f of (a x + b)^g + e from d on and c x + f below it."""
    num_values = (1, 3, 4, 5, 7)[kind] if kind < 5 else 0
    values = [value / 65536 for value in struct.unpack_from(f">{num_values}i", tag, 12)]
    match kind:
        case 0:
            return (values[0], 1, 0, 0, 0, 0, 0)
        case 1:
            g, a, b = values
            return (g, a, b, 0, -b / a if a else 0, 0, 0)
        case 2:
            g, a, b, c = values
            return (g, a, b, 0, -b / a if a else 0, c, c)
        case 3:
            return (*values, 0, 0)
        case 4:
            return tuple(values)
    raise ValueError(f"parametric curve of kind {kind}")


def _srgb_curve(linear: Floats) -> Floats:
    """Return sRGB in [0, 1] of linear light, clipped."""
    light = np.clip(linear, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(encoded, np.float64)
