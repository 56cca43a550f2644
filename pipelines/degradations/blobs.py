"""Outlines of drops and flakes: round, and no two alike."""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

SHIFT: Final = 4
"""Fractional bits of the coordinates that OpenCV draws: sixteenths of a pixel."""

Outlines: TypeAlias = NDArray[np.int32]
"""(N, corners, 2): x and y of each corner, for `shift=SHIFT`."""


def blob_outlines(
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    wobble: float,
    corners: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the outlines (N, corners, 2) in pixels of blobs at `centres` (N, 2), x and y.

    The radius is r (1 + w(phi)): w has two to four lobes of random turn, of which the widest
    deviates by up to `wobble` and each next by half as much.
    """
    lobes = np.array([2, 3, 4])
    height = rng.uniform(0, wobble * 2.0 ** (2 - lobes), (len(radii), 3))
    turn = rng.uniform(0, 2 * np.pi, (len(radii), 3))
    phi = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    # cos(lobes phi + turn) as a sum of products: far fewer cosines than blobs times corners.
    around = np.einsum("nl,lc->nc", height * np.cos(turn), np.cos(np.outer(lobes, phi)))
    around -= np.einsum("nl,lc->nc", height * np.sin(turn), np.sin(np.outer(lobes, phi)))
    around += 1
    around *= radii[:, None]
    outlines = np.stack([around * np.cos(phi), around * np.sin(phi)], axis=2)
    outlines += centres[:, None]
    return outlines


def fixed_point(outlines: NDArray[np.float64]) -> Outlines:
    """Return `outlines` in pixels as OpenCV draws them."""
    return np.rint(outlines * 2**SHIFT).astype(np.int32)
