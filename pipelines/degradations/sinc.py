"""The ideal low-pass filter, which rings."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.kernels import Kernel, blurred, check_side, draw_side, normalised
from pipelines.pixels import Pixels


@dataclass(frozen=True)
class Sinc:
    """lq = h * gt, h the circular low-pass filter: ringing and overshoot at edges.

    h(r) = w / (2 pi r) J1(w r), cut to a square and normalised; the cutoff w and the side of the
    square are drawn for each sample. Borders are reflected. Source: Real-ESRGAN (Wang et al.,
    2021), section 3.4; the ranges are those of its last filter.
    """

    side_px: tuple[int, int] = (7, 21)
    """Shortest and longest side of the kernel; both odd, as is what is drawn."""
    cutoff: tuple[float, float] = (1 / 3, 1.0)
    """Lowest and highest cutoff, as a part of the highest frequency a grid can hold (w / pi)."""

    def __post_init__(self) -> None:
        """Refuse empty ranges."""
        check_side(self.side_px)
        low, high = self.cutoff
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"cutoff {self.cutoff} is not 0 < low <= high <= 1; use for example (0.2, 1.0)"
            )

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt; float32 may leave [0, 1] by the overshoot."""
        side_px = draw_side(self.side_px, rng)
        return blurred(gt, low_pass(side_px, rng.uniform(*self.cutoff)))


def low_pass(side_px: int, cutoff: float) -> Kernel:
    """Return the kernel that passes frequencies below `cutoff` times the highest."""
    omega = cutoff * math.pi
    r = _quadrant(side_px)
    with np.errstate(invalid="ignore"):  # the centre, where h is the limit for r -> 0
        quadrant = np.where(r > 0, bessel_j1(omega * r) * omega / r, omega**2 / 2)
    return normalised(quadrant[_fold(side_px)])


@cache
def _quadrant(side_px: int) -> NDArray[np.float64]:
    """Return the distance to the centre, from it to a corner: the kernel has four such parts."""
    x = np.arange(side_px // 2 + 1)
    return np.hypot(x, x[:, None])


@cache
def _fold(side_px: int) -> tuple[NDArray[np.intp], ...]:
    """Return for each row and column of a kernel those of the quadrant."""
    distances = np.abs(np.arange(side_px) - side_px // 2)
    return np.ix_(distances, distances)


NEAR: Final = (0.5, -0.56249985, 0.21093573, -0.03954289, 0.00443319, -0.00031761, 0.00001109)
MODULUS: Final = (
    0.79788456,
    0.00000156,
    0.01659667,
    0.00017105,
    -0.00249511,
    0.00113653,
    -0.00020033,
)
PHASE: Final = (
    -2.35619449,
    0.12499612,
    0.00005650,
    -0.00637879,
    0.00074348,
    0.00079824,
    -0.00029166,
)


def bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Bessel function of the first kind and order one of x >= 0, to 1e-7.

    Source: Abramowitz & Stegun, Handbook of Mathematical Functions, 9.4.4 up to 3 and 9.4.6 above.
    """
    near, far = np.minimum(x, 3), np.maximum(x, 3)
    power_series = near * _polynomial(NEAR, (near / 3) ** 2)
    modulus, phase = _polynomial(MODULUS, 3 / far), far + _polynomial(PHASE, 3 / far)
    return np.where(x <= 3, power_series, modulus * np.cos(phase) / np.sqrt(far))


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of coefficients[k] x^k, by Horner's rule."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
