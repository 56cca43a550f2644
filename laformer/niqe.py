"""NIQE: how far the statistics of an image are from those of good photos; no gt takes part.

Source: Mittal, Soundararajan and Bovik, "Making a Completely Blind Image Quality Analyzer", SPL
2013. The image is looked at in blocks of 96 pixels, as it is and at half its size: what a Gaussian
neighbourhood does not predict follows generalised Gaussians, whose shapes and widths are the
features. The score is the distance between the Gaussian of these features and that of the photos
that `Pristine` was fitted to. So it means nothing without them, and its name says which they were.
"""

import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from laformer.metrics import Levels, luma

Floats = NDArray[np.float64]

BLOCK_PX: Final = 96
"""Side of a block at full size."""
NUM_FEATURES: Final = 36
"""Eighteen at each of two sizes."""
SHARP: Final = 0.75
"""Blocks of good photos count from this part of the sharpness of the sharpest in the photo."""
SHIFTS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours, in rows and columns, whose products are looked at."""
_HALF: Final = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""MATLAB's bicubic by one half: Keys' kernel, a = -0.5, at a quarter, three quarters, ..."""


@dataclass(frozen=True, eq=False)
class Pristine:
    """What the features of good photos are like."""

    mean: Floats
    """(36,)."""
    covariance: Floats
    """(36, 36)."""
    window: Floats
    """(7, 7), the neighbourhood by which features are taken; adds up to 1."""

    def __post_init__(self) -> None:
        """Refuse what is no such parameter."""
        wanted = {
            "mean": (NUM_FEATURES,),
            "covariance": (NUM_FEATURES, NUM_FEATURES),
            "window": (7, 7),
        }
        for name, shape in wanted.items():
            found = getattr(self, name)
            if found.shape != shape or not np.isfinite(found).all():
                raise ValueError(
                    f"{name} {found.shape} of NIQE is not {shape} finite numbers; use the "
                    "parameters of its authors, or fit them to a folder of photos"
                )

    @cached_property
    def name(self) -> str:
        """Return niqe-DIGEST: scores under other parameters have another name."""
        parts = (self.mean, self.covariance, self.window)
        data = b"".join(np.ascontiguousarray(part, "<f8").tobytes() for part in parts)
        return f"niqe-{hashlib.sha256(data).hexdigest()[:8]}"

    def packed(self) -> bytes:
        """Return the parameters as an .npz that `read` takes."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            mu_pris_param=self.mean[None],
            cov_pris_param=self.covariance,
            gaussian_window=self.window,
        )
        return buffer.getvalue()


def read(data: bytes) -> Pristine:
    """Return the parameters of an .npz, or of the .mat of the authors, which needs scipy.

    Both have mu_pris_param (or mu_prisparam) and cov_pris_param (or cov_prisparam); a
    gaussian_window that is not there is the usual one. Raises ValueError for another file.
    """
    try:
        if data[:2] == b"PK":
            found = dict(np.load(io.BytesIO(data), allow_pickle=False))
        else:
            from scipy.io import loadmat  # noqa: PLC0415

            found = loadmat(io.BytesIO(data))
    except ImportError as error:
        raise ValueError("a .mat needs scipy; install it, or name an .npz") from error
    except Exception as error:
        raise ValueError(f"no .npz or .mat with parameters of NIQE ({error})") from error
    named = {name.replace("_", ""): value for name, value in found.items()}
    missing = {"muprisparam", "covprisparam"} - named.keys()
    if missing:
        raise ValueError(f"no parameters of NIQE: there are {', '.join(sorted(found))} alone")
    return Pristine(
        np.asarray(named["muprisparam"], np.float64).ravel(),
        np.asarray(named["covprisparam"], np.float64),
        np.asarray(named.get("gaussianwindow", usual_window()), np.float64),
    )


def fit(photos: Iterable[Levels]) -> Pristine:
    """Fit the parameters to good photos, each (H, W, C) or (H, W) in 8-bit levels.

    Of each photo the sharpest blocks count. Raises ValueError when all of them together are too
    few for a covariance.
    """
    window, kept = usual_window(), []
    for photo in photos:
        found, sharpness = features(photo, window)
        kept.append(found[sharpness > SHARP * sharpness.max()])
    rows = np.concatenate(kept) if kept else np.empty((0, NUM_FEATURES))
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) <= NUM_FEATURES:
        raise ValueError(
            f"{len(rows)} sharp blocks of {BLOCK_PX} pixels are too few to fit NIQE, which takes "
            f"more than {NUM_FEATURES}; give more or larger photos"
        )
    return Pristine(rows.mean(axis=0), np.cov(rows, rowvar=False), window)


def niqe(image: Levels, pristine: Pristine) -> float:
    """Return the distance from good photos; less is better, and 0 is not reached.

    RGB counts by its luma, rounded. Rows and columns beyond a multiple of 96 are left out.

    Args:
        image: (H, W, C) or (H, W), in 8-bit levels, uint8 or float.
        pristine: what good photos are like.

    Raises:
        ValueError: fewer than two blocks, or all are flat.
    """
    found, _ = features(image, pristine.window)
    finite = found[np.isfinite(found).all(axis=1)]
    if len(finite) < 2:
        raise ValueError(
            f"{len(finite)} blocks of {BLOCK_PX} x {BLOCK_PX} pixels have structure, but NIQE "
            "takes two; use larger images, or leave it out"
        )
    away = pristine.mean - np.nanmean(found, axis=0)
    between = np.linalg.pinv((pristine.covariance + np.cov(finite, rowvar=False)) / 2)
    return float(np.sqrt(away @ between @ away))


def features(image: Levels, window: Floats) -> tuple[Floats, Floats]:
    """Return 36 features of each block, (n, 36), NaN where it is flat, and its sharpness, (n,)."""
    levels = image.reshape(*image.shape[:2], -1)
    is_rgb = levels.shape[2] == 3
    grey: Floats = np.rint(luma(levels) if is_rgb else levels[:, :, 0].astype(np.float64))
    height, width = (side - side % BLOCK_PX for side in grey.shape)
    if not height or not width:
        raise ValueError(
            f"image {image.shape} is smaller than a block of {BLOCK_PX} x {BLOCK_PX} pixels, which "
            "NIQE takes; use larger images, or leave it out"
        )
    grey = grey[:height, :width]
    full, deviation = unpredicted(grey, window)
    half, _ = unpredicted(halved(grey), window)
    both = [_of_blocks(cut(full, BLOCK_PX)), _of_blocks(cut(half, BLOCK_PX // 2))]
    return np.concatenate(both, axis=1), cut(deviation, BLOCK_PX).mean(axis=(1, 2))


def unpredicted(grey: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Return what is left of (H, W) after mean and deviation of its neighbourhood, and the last.

    The border is repeated. The 1 that keeps flat places finite is in levels. What is filtered is
    rounded to single precision, or scores differ by 4e-4 from those of MATLAB and of BasicSR.
    """
    single = grey.astype(np.float32)
    mean, square = (
        cv2.filter2D(
            each.astype(np.float64), cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        for each in (single, np.square(single))
    )
    deviation = np.sqrt(np.abs(square - np.square(mean)))
    left = (single - mean) / (deviation + 1)
    return left.astype(np.float64), deviation.astype(np.float64)


def halved(grey: Floats) -> Floats:
    """Return (H, W), both even, at half its size as MATLAB's imresize makes it of floats."""
    for _ in range(2):
        rows = np.pad(grey, ((3, 3), (0, 0)), mode="symmetric")
        num = len(grey) // 2
        made = [weight * rows[i : i + 2 * num : 2] for i, weight in enumerate(_HALF)]
        grey = np.add.reduce(made).T
    return grey


def cut(image: Floats, side: int) -> Floats:
    """Return the blocks (n, side, side) of (H, W), row by row."""
    rows, columns = (length // side for length in image.shape)
    blocks = image.reshape(rows, side, columns, side).swapaxes(1, 2)
    return blocks.reshape(-1, side, side)


def _of_blocks(blocks: Floats) -> Floats:
    """Return (n, 18): shape and width of each block, and four numbers for each neighbour."""
    shape, left, right = asymmetric(blocks)
    found = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = asymmetric(blocks * np.roll(blocks, shift, axis=(1, 2)))
        mean = (right - left) * _ratio(shape, 2, 1)
        found += [shape, mean, left, right]
    return np.stack(found, axis=1)


def asymmetric(blocks: Floats) -> tuple[Floats, Floats, Floats]:
    """Return shape and widths below and above 0 of a generalised Gaussian, each (n,), by moments.

    NaN where a block has no values on one side. Source: Lasmar, Stitou and Berthoumieu, ICIP 2009.
    """
    values = blocks.reshape(len(blocks), -1)
    square = np.square(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = (
            np.sqrt((square * side).sum(axis=1) / side.sum(axis=1))
            for side in (values < 0, values > 0)
        )
        skew = below / above
        moments = np.square(np.abs(values).mean(axis=1)) / square.mean(axis=1)
        wanted = moments * (skew**3 + 1) * (skew + 1) / np.square(skew**2 + 1)
    shapes, known = _shapes()
    at = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    nearer = at - (wanted - known[at - 1] < known[at] - wanted)
    shape = np.where(np.isfinite(wanted), shapes[nearer], np.nan)
    width = np.sqrt(_ratio(shape, 1, 3))
    return shape, below * width, above * width


@lru_cache(maxsize=1)
def _shapes() -> tuple[Floats, Floats]:
    """Return shapes from 0.2 to 10 in thousandths, and the ratio of moments of each, rising."""
    shapes = np.arange(200, 10_000) / 1000
    return shapes, _ratio(shapes, 2, 1) * _ratio(shapes, 2, 3)


def _ratio(shape: Floats, above: int, below: int) -> Floats:
    """Return gamma(above / shape) / gamma(below / shape)."""
    logs = (_log_gamma(top / shape) for top in (above, below))
    upper, lower = logs
    return np.exp(upper - lower)


def _log_gamma(values: Floats) -> Floats:
    return np.array([math.lgamma(value) if np.isfinite(value) else value for value in values])


def usual_window() -> Any:
    """Return the Gaussian of 7 x 7 and sigma 7 / 6 of the authors."""
    line = np.exp(-np.square(np.arange(-3, 4)) / (2 * (7 / 6) ** 2))
    line /= line.sum()
    return np.outer(line, line)
