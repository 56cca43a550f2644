"""What can be measured of an image against its gt, and how a protocol asks for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from laformer import alignment, metrics, ssim
from laformer.blocking import psnr_b
from pipelines.protocols import Protocol

LPIPS = "lpips"
"""A measure that no protocol asks for: a user does, with --lpips."""
NIQE = "niqe-"
"""Begins the name of NIQE, which ends with the digest of what it takes good photos to be like."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A measure."""

    title: str
    """As it is printed."""
    of: Callable[..., float]
    """restored and gt, in 8-bit levels, to the number."""
    unit: str = ""
    """Of the number; most have none."""
    more_is_better: bool = True

    def text(self, value: float) -> str:
        """Return a value as it is printed."""
        return f"{value:.2f}" if self.unit == "dB" else f"{value:.4f}"


def _unavailable(*_: Any) -> float:
    raise RuntimeError("LPIPS and NIQE are computed by what a worker has loaded")


MEASURES: dict[str, Kind] = {
    "psnr_db": Kind(title="PSNR", unit="dB", of=metrics.psnr),
    "psnr_b_db": Kind(title="PSNR-B", unit="dB", of=psnr_b),
    "ssim": Kind(title="SSIM", of=ssim.gaussian),
    "ssim_3d": Kind(title="SSIM 3-D", of=ssim.volume),
    "ssim_uniform7": Kind(title="SSIM 7x7", of=ssim.uniform),
    "ssim_uniform11": Kind(title="SSIM 11x11", of=partial(ssim.uniform, window_px=11)),
    "ssim_pooled": Kind(title="SSIM pooled", of=ssim.pooled),
    "mae": Kind(title="MAE", of=metrics.mae, more_is_better=False),
    LPIPS: Kind(title="LPIPS", of=_unavailable, more_is_better=False),
}
"""By the name that a protocol and a row of scores have for them."""


def kind(name: str) -> Kind:
    """Return what is known of a measure; NIQE is another one under other parameters."""
    if name.startswith(NIQE):
        title = f"NIQE {name.removeprefix(NIQE)}"
        return Kind(title=title, of=_unavailable, more_is_better=False)
    return MEASURES[name]


@dataclass(frozen=True)
class Scorer:
    """Measures images by a protocol."""

    protocol: Protocol
    further: dict[str, Callable[[Any, Any], float]] = field(default_factory=dict)
    """What is measured of RGB in 8-bit levels besides, by name."""

    def __call__(self, image: Any, gt: Any) -> dict[str, float]:
        """Return what is measured of an image against gt, both (H, W, C), under its name.

        The image is in integer levels, or float in units of the full range; gt is in levels.
        """
        found = scores(image, gt, self.protocol)
        for name, of in self.further.items():
            found[name] = of(*(levels(each, self.protocol) for each in (image, gt)))
        return found


def scores(image: Any, gt: Any, protocol: Protocol) -> dict[str, float]:
    """Return what the protocol measures of an image against gt, under its own name.

    The image is in integer levels, or float in units of the full range; psnr_db is in dB.
    """
    a, b = compared(image, protocol), compared(gt, protocol)
    if not protocol.align:
        return {name: MEASURES[name].of(a, b) for name in protocol.measures}
    a, b, mask = alignment.aligned(a, b)
    masked: dict[str, Callable[[], float]] = {
        "psnr_db": lambda: alignment.masked_psnr(a, b, mask),
        "ssim": lambda: ssim.gaussian(a, b, mask=mask),
    }
    return {name: masked[name]() for name in protocol.measures}


@dataclass(frozen=True)
class Judge:
    """PSNR in dB under a protocol, as a value that can be sent to a worker."""

    protocol: Protocol

    def __call__(self, restored: Any, gt: Any) -> float:
        """Compare floats in units of the full range with gt uint8, both (H, W, C)."""
        return metrics.psnr(compared(restored, self.protocol), compared(gt, self.protocol))


def compared(image: Any, protocol: Protocol) -> Any:
    """Return what the protocol compares of an image, in 8-bit levels."""
    inside = metrics.shave(levels(image, protocol), protocol.border_px)
    match protocol.channel:
        case "y":
            return metrics.luma(inside)
        case "y-rounded":
            return metrics.rounded_luma(inside)
        case "rgb" | "grey":
            return inside


def levels(image: Any, protocol: Protocol) -> Any:
    """Return an image in 8-bit levels: uint8, or float where the protocol does not round."""
    if image.dtype == np.uint8:
        return image
    if np.issubdtype(image.dtype, np.integer):
        return image * (255 / np.iinfo(image.dtype).max)
    if protocol.quantise:
        return metrics.quantise(image)
    return np.clip(image.astype(np.float64), 0, 1) * 255


def fed(lq: Any, protocol: Protocol) -> Any:
    """Return lq as the network gets it: as float where its output must not be rounded."""
    if protocol.quantise or not np.issubdtype(lq.dtype, np.integer):
        return lq
    return lq.astype(np.float32) / np.float32(np.iinfo(lq.dtype).max)
