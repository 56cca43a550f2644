"""Resizing: at random, and back to a fixed part of gt."""

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from pipelines.degradations.chain import Frame
from pipelines.pixels import Degrade, Pixels, like, to_float

MODES: Final = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
"""How pixels may be resampled; each is drawn equally often."""


@dataclass(frozen=True)
class Resize:
    """lq = gt resized by f: f ~ U(1, high) up, U(low, 1) down, or 1.

    Sides are rounded down, to 1 px at least; area, bilinear or bicubic is drawn for each sample,
    and only area filters before it drops pixels: the aliasing is wanted. The size is random, so
    that a step which returns to a fixed one must follow. Source: the first resize of Real-ESRGAN
    (Wang et al., 2021), section 3.2 and its published settings, which are the defaults.
    """

    factor: tuple[float, float] = (0.15, 1.5)
    """Lowest and highest factor, with 1 between them."""
    odds: tuple[float, float, float] = (0.2, 0.7, 0.1)
    """How often it goes up, down, or keeps its size, with a sum of 1."""

    def __post_init__(self) -> None:
        """Refuse ranges and probabilities that cannot be drawn from."""
        _check(self.factor, self.odds)

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (h, w, C) in the dtype of gt; float32 may leave [0, 1] by bicubic overshoot."""
        height, width = gt.shape[:2]
        factor = _draw_factor(self.factor, self.odds, rng)
        return _resample(gt, (int(height * factor), int(width * factor)), rng)


@dataclass(frozen=True)
class ResizeFromGt:
    """lq = gt resized to f times a fixed part of gt, whatever its size by then; f as in `Resize`.

    Source: the second resize of Real-ESRGAN, whose settings are the defaults.
    """

    divisor: int = 4
    """The part of gt that f is relative to: its sides over this."""
    factor: tuple[float, float] = (0.3, 1.2)
    """Lowest and highest factor, with 1 between them."""
    odds: tuple[float, float, float] = (0.3, 0.4, 0.3)
    """How often the factor is above 1, below 1, or 1, with a sum of 1."""

    def __post_init__(self) -> None:
        """Refuse ranges and probabilities that cannot be drawn from."""
        _check_whole("divisor", self.divisor)
        _check(self.factor, self.odds)

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (h, w, C) in the dtype of gt, which is taken for the gt of a chain."""
        return self.within(gt.shape[:2])(gt, rng)

    def within(self, frame: Frame) -> Degrade:
        """Return the step for the gt of a chain."""
        height, width = (side / self.divisor for side in frame)

        def run(gt: Pixels, rng: np.random.Generator) -> Any:
            factor = _draw_factor(self.factor, self.odds, rng)
            return _resample(gt, (int(height * factor), int(width * factor)), rng)

        return run


@dataclass(frozen=True)
class ResizeToGt:
    """lq = gt resized to exactly gt / scale, whatever its size by then.

    Area, bilinear or bicubic, as in `Resize`. Source: the last resize of Real-ESRGAN.
    """

    scale: int = 4
    """By how much lq is smaller than gt, whose sides must be multiples of it."""

    def __post_init__(self) -> None:
        """Refuse what cannot divide."""
        _check_whole("scale", self.scale)

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H / scale, W / scale, C) in the dtype of gt, taken for the gt of a chain."""
        return self.within(gt.shape[:2])(gt, rng)

    def within(self, frame: Frame) -> Degrade:
        """Return the step for the gt of a chain. Raises ValueError unless scale divides it."""
        height, width = frame
        if height % self.scale or width % self.scale:
            fits = " x ".join(str(math.ceil(side / self.scale) * self.scale) for side in frame)
            raise ValueError(
                f"gt of {height} x {width} px has sides that are not multiples of scale "
                f"{self.scale}; use for example {fits}"
            )

        def run(gt: Pixels, rng: np.random.Generator) -> Any:
            return _resample(gt, (height // self.scale, width // self.scale), rng)

        return run


def _resample(gt: Pixels, size: Frame, rng: np.random.Generator) -> Any:
    """Return gt at a size, no side below 1 px, by a mode drawn from `MODES`."""
    mode = MODES[rng.integers(len(MODES))]
    height, width = (max(side, 1) for side in size)
    resized: Any = cv2.resize(to_float(gt), (width, height), interpolation=mode)
    return like(resized.reshape(height, width, gt.shape[2]), gt)


def _draw_factor(
    factor: tuple[float, float], odds: tuple[float, float, float], rng: np.random.Generator
) -> float:
    """Return a factor above 1, below 1, or 1."""
    (low, high), (up, down, _) = factor, odds
    direction = rng.random()
    if direction < up:
        return rng.uniform(1, high)
    return rng.uniform(low, 1) if direction < up + down else 1.0


def _check(factor: tuple[float, float], odds: tuple[float, float, float]) -> None:
    """Refuse ranges and probabilities that cannot be drawn from."""
    low, high = factor
    if not 0 < low <= 1 <= high:
        raise ValueError(
            f"factor {factor} is not 0 < low <= 1 <= high; use for example (0.15, 1.5)"
        )
    if min(odds) < 0 or not math.isclose(sum(odds), 1):
        raise ValueError(
            f"odds {odds} are not three of at least 0 with a sum of 1; "
            "use for example (0.2, 0.7, 0.1)"
        )


def _check_whole(name: str, value: int) -> None:
    """Refuse what cannot divide a side."""
    if value < 1:
        raise ValueError(f"{name} {value} is below 1; use for example 4")
