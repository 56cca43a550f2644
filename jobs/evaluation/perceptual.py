"""LPIPS: a distance between the features of a network that others trained; not installed here."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from jobs.errors import JobError

PACKAGE = "lpips"


def require_lpips() -> None:
    """Raise JobError, naming what to install, when LPIPS cannot be computed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise JobError(
            f"--lpips needs the package {PACKAGE}, which brings torchvision and fetches the "
            f"weights of AlexNet when it is first used; install it with: pip install {PACKAGE}"
        )


def load_lpips() -> Callable[[Any, Any], float]:
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
