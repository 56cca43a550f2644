"""What training minimises. Every loss is a mean over all samples: parts of a batch average."""

from collections.abc import Callable
from functools import cache, reduce

import torch
from torch import Tensor

from laformer import terms

CHARBONNIER_EPS = 1e-3
Loss = Callable[[Tensor, Tensor], Tensor]


def l1(restored: Tensor, gt: Tensor) -> Tensor:
    """Return the mean absolute error of two equal shapes, in units of the full range."""
    return (restored - gt).abs().mean()


def charbonnier(restored: Tensor, gt: Tensor) -> Tensor:
    """Return the mean of sqrt(error^2 + eps^2): L1 with a smooth foot (Charbonnier et al., 1994).

    eps is 1e-3 of the full range, a quarter of an 8-bit level.
    """
    return ((restored - gt).square() + CHARBONNIER_EPS**2).sqrt().mean()


def frequency(restored: Tensor, gt: Tensor) -> Tensor:
    """Return the mean absolute real and imaginary part of the error's 2-D Fourier transform.

    The transform of (B, C, H, W) is over H and W, of real values, and not normalised, as in
    MIMO-UNet (Cho et al., ICCV 2021, weight 0.1) and FFTformer (Kong et al., CVPR 2023):
    published weights hold as they stand. So it grows with the patch: white errors weigh
    sqrt(H * W / 2) times their L1, 91 times at 128 pixels. In float32 or wider, always.
    """
    wide = torch.promote_types(restored.dtype, torch.float32)
    with torch.autocast(restored.device.type, enabled=False):
        spectrum = torch.fft.rfft2(restored.to(wide) - gt.to(wide))
        return torch.view_as_real(spectrum).abs().mean()


LOSSES: dict[terms.Name, Loss] = {"charbonnier": charbonnier, "l1": l1, "frequency": frequency}


@cache
def weighted(text: str) -> Loss:
    """Return the sum of losses that a text names (laformer/terms.py)."""
    parts = [(term.weight, LOSSES[term.name]) for term in terms.parse(text)]

    def measure(restored: Tensor, gt: Tensor) -> Tensor:
        return reduce(torch.add, (weight * loss(restored, gt) for weight, loss in parts))

    return measure
