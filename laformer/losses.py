"""What training minimises."""

from collections.abc import Callable

from torch import Tensor

from laformer.config import Loss

CHARBONNIER_EPS = 1e-3


def l1(restored: Tensor, gt: Tensor) -> Tensor:
    """Return the mean absolute error of two equal shapes, in units of the full range."""
    return (restored - gt).abs().mean()


def charbonnier(restored: Tensor, gt: Tensor) -> Tensor:
    """Return the mean of sqrt(error^2 + eps^2): L1 with a smooth foot (Charbonnier et al., 1994).

    eps is 1e-3 of the full range, a quarter of an 8-bit level.
    """
    return ((restored - gt).square() + CHARBONNIER_EPS**2).sqrt().mean()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {"charbonnier": charbonnier, "l1": l1}
