"""To linear light and back: optics mixes photons and sensors count them, a file holds their root.

The curve is x^2.2. That of sRGB is up to 9 levels of 255 away in the shadows, 3 above level 64; no
photo of unknown origin follows either exactly.
"""

import functools
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pixels import Pixels, like

GAMMA: Final = 2.2


def _curve(levels: int) -> NDArray[np.float32]:
    return (np.linspace(0, 1, levels) ** GAMMA).astype(np.float32)


_TABLES: Final = {np.dtype(np.uint8): _curve(2**8), np.dtype(np.uint16): _curve(2**16)}


def to_linear(pixels: Pixels) -> NDArray[np.float32]:
    """Return the linear light (H, W, C) of pixels as float32, 0 to 1; no light is below 0."""
    table = _TABLES.get(pixels.dtype)
    if table is None:
        return np.power(np.maximum(pixels, np.float32(0)), np.float32(GAMMA))
    light: Any = cv2.LUT(pixels, table)
    return np.asarray(light, np.float32).reshape(pixels.shape)


def unclipped(light: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    """Return light whose whites are up to `gain` times as bright: a file cannot say how bright.

    White is what has .98 of the range (level 253 of 255) in every channel; from there on the gain
    rises linearly. One gain for all channels keeps the hue. Blurred lamps and glints stay bright
    only so: the saturation of Rim et al. 2022 (RSBlur).
    """
    darkest: Any = functools.reduce(cv2.min, cv2.split(light))
    white = darkest > 0.98
    if gain == 1 or not white.any():
        return light
    brighter = light.copy()
    whiteness = np.minimum(50 * darkest[white] - 49, 1)
    brighter[white] *= 1 + np.float32(gain - 1) * whiteness[:, None]
    return brighter


def encoded(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return linear light as float32 pixels, 0 to 1: a sensor clips what is brighter."""
    clipped = np.clip(light, 0, 1)
    return np.power(clipped, np.float32(1 / GAMMA), out=clipped)


def from_linear(light: NDArray[np.float32], gt: Pixels) -> Any:
    """Return linear light as pixels in the dtype of `gt`."""
    return like(encoded(light), gt)
