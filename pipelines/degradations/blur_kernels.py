"""Blur by kernels of the Gaussian's family."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.kernels import Kernel, blurred, check_side, draw_side, normalised
from pipelines.pixels import Pixels

KINDS: Final = (
    ("gaussian", "isotropic"),
    ("gaussian", "anisotropic"),
    ("generalised", "isotropic"),
    ("generalised", "anisotropic"),
    ("plateau", "isotropic"),
    ("plateau", "anisotropic"),
)
"""Profile and outline of the kernels that can be drawn, in the order of `Blur.weights`."""


@dataclass(frozen=True)
class Blur:
    """lq = k * gt, k of one of six kinds; side, kind and shape are drawn for each sample.

    With q = x^T S^-1 x, S the covariance (its axes sigma, turned by an angle of U(-pi, pi) where
    anisotropic): Gaussian exp(-q / 2), generalised exp(-q^beta / 2), plateau 1 / (1 + q^beta);
    each is cut to a square and normalised. Half of the betas are drawn below 1, half above.
    Borders are reflected. Source: Real-ESRGAN (Wang et al., 2021), section 3.2, and its published
    settings, which are the defaults here; its sinc kernels are `Sinc`.
    """

    side_px: tuple[int, int] = (7, 21)
    """Shortest and longest side of the kernel; both odd, as is what is drawn."""
    sigma: tuple[float, float] = (0.2, 3.0)
    """Lowest and highest standard deviation along an axis, in px."""
    generalised_beta: tuple[float, float] = (0.5, 4.0)
    """Lowest and highest exponent of generalised kernels: below 1 peaked, above 1 flat."""
    plateau_beta: tuple[float, float] = (1.0, 2.0)
    """Lowest and highest exponent of plateau kernels."""
    weights: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    """How often each of `KINDS` is drawn, with a sum of 1."""

    def __post_init__(self) -> None:
        """Refuse empty ranges and weights that leave a kind out."""
        check_side(self.side_px)
        low, high = self.sigma
        if not 0 < low <= high:
            raise ValueError(f"sigma {self.sigma} is not 0 < low <= high; use for example (0.2, 3)")
        for name in ("generalised_beta", "plateau_beta"):
            low, high = getattr(self, name)
            if not 0 < low <= 1 <= high:
                raise ValueError(
                    f"{name} {low, high} is not 0 < low <= 1 <= high; use for example (0.5, 4)"
                )
        whole = math.isclose(sum(self.weights), 1) and min(self.weights) >= 0
        if len(self.weights) != len(KINDS) or not whole:
            raise ValueError(
                f"weights {self.weights} are not {len(KINDS)} of at least 0 with a sum of 1; "
                "use for example (0.5, 0.5, 0, 0, 0, 0)"
            )

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        return blurred(gt, self.kernel(rng))

    def kernel(self, rng: np.random.Generator) -> Kernel:
        """Draw a kernel (side, side) float32 of sum 1, symmetric about its centre."""
        side_px = draw_side(self.side_px, rng)
        profile, outline = KINDS[rng.choice(len(KINDS), p=self.weights)]
        along = across = rng.uniform(*self.sigma)
        angle = 0.0
        if outline == "anisotropic":
            across, angle = rng.uniform(*self.sigma), rng.uniform(-math.pi, math.pi)
        q = quadratic_form(side_px, (along, across), angle)
        match profile:
            case "gaussian":
                values = np.exp(-q / 2)
            case "generalised":
                values = np.exp(-(q ** _draw_beta(self.generalised_beta, rng)) / 2)
            case _:
                values = 1 / (1 + q ** _draw_beta(self.plateau_beta, rng))
        return normalised(values)


def quadratic_form(side_px: int, sigma: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """Return x^T S^-1 x on a square around 0: squared distance in units of sigma.

    The first sigma is that along `angle`, in radians from the x axis.
    """
    x, y = _grid(side_px)
    cosine, sine = math.cos(angle), math.sin(angle)
    along, across = sigma
    form: NDArray[np.float64] = ((cosine * x + sine * y) / along) ** 2
    return form + ((cosine * y - sine * x) / across) ** 2


@cache
def _grid(side_px: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x of each column and y of each row, in px from the centre."""
    x = np.arange(side_px, dtype=np.float64) - side_px // 2
    return x, x[:, None]


def _draw_beta(beta: tuple[float, float], rng: np.random.Generator) -> float:
    """Return an exponent below or above 1, each half the time."""
    low, high = beta
    return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
