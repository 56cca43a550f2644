"""What a user may ask for besides a protocol: LPIPS, whose network others trained, and NIQE.

LPIPS is a distance between features of that network, and its package is not installed here.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from jobs.errors import JobError
from jobs.evaluation.measures import LPIPS
from laformer.niqe import Pristine, niqe

PACKAGE = "lpips"

Compared: TypeAlias = Callable[[Any, Any], float]
"""Restored and gt (H, W, C), in 8-bit levels, to the number."""


@dataclass(frozen=True)
class Besides:
    """What is measured whatever the protocol, as a value that can be sent to a worker."""

    lpips: bool = False
    """Whether LPIPS is."""
    niqe: Pristine | None = None
    """What NIQE takes good photos to be like; None: it is not measured."""

    def load(self) -> dict[str, Compared]:
        """Return what measures, by the name of its number."""
        found: dict[str, Compared] = {LPIPS: load_lpips()} if self.lpips else {}
        if pristine := self.niqe:
            found[pristine.name] = lambda restored, _: niqe(restored, pristine)
        return found


def require_lpips() -> None:
    """Raise JobError, naming what to install, when LPIPS cannot be computed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise JobError(
            f"--lpips needs the package {PACKAGE}, which brings torchvision and fetches the "
            f"weights of AlexNet when it is first used; install it with: pip install {PACKAGE}"
        )


def load_lpips() -> Compared:
    """Return LPIPS of AlexNet, version 0.1, of two images (H, W, C) in 8-bit levels.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    CVPR 2018; less is better.
    """
    require_lpips()
    network = importlib.import_module(PACKAGE).LPIPS(net="alex", verbose=False).eval()

    def distance(restored: Any, gt: Any) -> float:
        pictures = [
            torch.from_numpy(image / 127.5 - 1).float().permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
            for image in (restored, gt)
        ]
        with torch.inference_mode():
            return float(network(*pictures))

    return distance
