"""Grey with alpha as a PNG of two samples a pixel, which OpenCV would write as colour.

Source: PNG (W3C, third edition), filter type 2.
"""

import struct
import zlib
from typing import Any

import numpy as np

_LEVEL = 6


def encode(pixels: Any, alpha: Any, profile: bytes | None) -> bytes:
    """Return a PNG of (H, W, 1) grey and (H, W) alpha, both uint8 or uint16."""
    height, width, _ = pixels.shape
    samples = np.dstack((pixels, alpha))
    rows = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    # Each row as its difference to the one above: that is filter 2, said in a byte in front.
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, samples.itemsize * 8, 4, 0, 0, 0)
    chunks = [(b"IHDR", head)]
    if profile is not None:
        chunks.append((b"iCCP", b"grey\0\0" + zlib.compress(profile)))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), _LEVEL)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
