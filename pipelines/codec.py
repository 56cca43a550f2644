"""Bytes <-> samples: the only file that calls a codec.

OpenCV does the work, and Pillow where OpenCV hides the inks of a CMYK JPEG.
"""

import io
import os
import re
import struct
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.errors import ImageError
from pipelines.headers import Header

# A broken file is an ImageError with a reason, not also a line on stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

T = TypeVar("T")


def decode(header: Header) -> tuple[Any, dict[int, bytes]]:
    """Return samples as OpenCV gives them, and metadata by kind."""

    def call() -> tuple[Any, Any, Any]:
        return cv2.imdecodeWithMetadata(np.frombuffer(header.data, np.uint8), cv2.IMREAD_UNCHANGED)

    try:
        if header.jpeg:
            decoded, complaints = _overhear(call, _LIBJPEG)
        else:
            decoded, complaints = call(), []
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}; save it again") from error
    samples, kinds, blobs = decoded
    _check_samples(samples)
    for complaint in complaints:
        _check_complaint(complaint, header.data)
    metadata = {kind: blob.tobytes() for kind, blob in zip(kinds, blobs, strict=True)}
    return samples, metadata


def decode_plain(data: bytes, flag: int = cv2.IMREAD_UNCHANGED) -> Any:
    """Return samples as OpenCV gives them, of bytes that were made here."""
    try:
        samples: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}; save it again") from error
    _check_samples(samples)
    return samples


def decode_cmyk(header: Header) -> npt.NDArray[np.uint8]:
    """Return the inks (H, W, 4), which OpenCV does not hand out, of a JPEG that it could decode."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and header.width * header.height > most:
        raise ImageError(
            f"CMYK of {header.width} x {header.height} pixels, but at most {most} go through a "
            "profile; decode with profile='keep'"
        )
    try:
        with Image.open(io.BytesIO(header.data), formats=("JPEG",)) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"CMYK cannot be read: {error}; decode with profile='keep'") from error


def encode(
    samples: Any, suffix: str, parameters: tuple[int, ...], profile: bytes | None = None
) -> bytes:
    """Encode samples in the order of OpenCV; a colour profile goes into all but TIFF and BMP."""
    metadata: tuple[list[int], list[Any]] = ([], [])
    is_jpeg = suffix in (".jpg", ".jpeg")
    if profile is not None and not is_jpeg:
        metadata = ([cv2.IMAGE_METADATA_ICCP], [np.frombuffer(profile, np.uint8)])
    try:
        done, encoded = cv2.imencodeWithMetadata(suffix, samples, *metadata, parameters)
    except cv2.error as error:
        raise ImageError(f"cannot be written as {suffix}: {error.err}; use .png") from error
    if not done:
        raise ImageError(f"cannot be written as {suffix}; use .png")
    data = bytes(encoded.tobytes())
    return _with_profile(data, profile) if profile is not None and is_jpeg else data


def _with_profile(jpeg: bytes, profile: bytes) -> bytes:
    """Return a JPEG with a profile of any length in APP2 (ICC.1 annex B.4); OpenCV writes 64 kB."""
    parts = [profile[start : start + 65519] for start in range(0, len(profile), 65519)]
    if len(parts) > 255:
        raise ImageError(f"colour profile of {len(profile)} bytes, but .jpg holds 16 MB; use .png")
    segments = b"".join(
        struct.pack(">HH12sBB", 0xFFE2, len(part) + 16, b"ICC_PROFILE", number, len(parts)) + part
        for number, part in enumerate(parts, start=1)
    )
    # Behind the JFIF segment, which has to come first.
    start = 4 + struct.unpack_from(">H", jpeg, 4)[0]
    return jpeg[:start] + segments + jpeg[start:]


def _check_samples(samples: Any) -> None:
    if samples is None:
        raise ImageError(
            "truncated, damaged or of a rare kind; copy it again or save it as PNG", "damaged"
        )
    if samples.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"samples are {samples.dtype}; save it with 8 or 16 bits a channel")


def _check_complaint(complaint: str, jpeg: bytes) -> None:
    """Raise ImageError when what libjpeg says on stderr means that pixels are made up."""
    padding = re.search(r"(\d+) extraneous bytes before marker 0xd9", complaint)
    if padding:
        end = jpeg.rfind(b"\xff\xd9")
        # Some cameras fill the space before the last marker.
        if not jpeg[max(end - int(padding[1]), 0) : end].strip(b"\0"):
            return
    if complaint.startswith(("Corrupt JPEG data", "Premature end", "Inconsistent progression")):
        raise ImageError(f"damaged: {complaint}; copy it again", "damaged")


def _overhear(call: Callable[[], T], pattern: re.Pattern[str]) -> tuple[T, list[str]]:
    """Return what `call` returns, and the lines it wrote on stderr that begin with the pattern.

    One call at a time per process. Other lines, of whichever thread, are passed on after the call.
    """
    with _stderr_lock, tempfile.TemporaryFile() as file:
        try:
            stderr = os.dup(_STDERR)
        except OSError:  # There is none.
            return call(), []
        os.dup2(file.fileno(), _STDERR)
        try:
            result = call()
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
            others = "".join(line for line in lines if not pattern.match(line))
            if others:
                os.write(_STDERR, others.encode())
        return result, [line.strip() for line in lines if pattern.match(line)]


_LIBJPEG: Final = re.compile(
    "Corrupt JPEG data|Premature end|Inconsistent progression|Invalid SOS|Unknown Adobe|"
    "Warning: unknown JFIF|Invalid crop|Application transferred too many scanlines"
)
"""How the warnings of libjpeg begin (its jerror.h)."""

_STDERR: Final = 2
_stderr_lock = threading.Lock()
