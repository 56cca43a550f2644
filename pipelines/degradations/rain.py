"""Falling rain."""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.degradations.fields import Plane
from pipelines.degradations.haze import Haze
from pipelines.degradations.ranges import check_parts, check_ranges
from pipelines.pixels import Pixels, like, to_float


class Layer(NamedTuple):
    """Rain at one distance."""

    share: float
    """Part of all streaks."""
    length: tuple[float, float]
    """Shortest and longest streak: where in the range of lengths, 0 to 1."""
    spread_px: float
    """Standard deviation of the brightness across a streak."""
    light: float
    """Brightness beside that of the nearest layer."""


LAYERS: Final = (
    Layer(share=0.72, length=(0.0, 0.35), spread_px=0.45, light=0.35),
    Layer(share=0.23, length=(0.15, 0.7), spread_px=0.6, light=0.65),
    Layer(share=0.05, length=(0.4, 1.0), spread_px=0.95, light=1.0),
)
"""From far to near: many short, thin and faint streaks; few long, wide and bright ones."""

MIST: Final = Haze(airlight=(0.6, 0.9), beta=(0.3, 1.2))
"""Under rain clouds the air is darker than in haze, and what falls hides less than fog."""


@dataclass(frozen=True)
class Rain:
    """lq = gt + S, or 1 - (1 - gt) (1 - S): bright streaks S, added or screened upon the scene.

    The recipe of the field blurs sparse noise along one direction. Here S has three layers of
    depth, and each streak a length and a brightness of its own; a longer one is not fainter. Heavy
    rain also veils: lq = t (gt + S) + (1 - t) A. Source: Yang et al. 2017 (JORDER) for streaks; Li
    et al. 2019 (HeavyRain) for the veil.
    """

    density: tuple[float, float] = (0.005, 0.02)
    """Fewest and most streaks per pixel."""
    length_px: tuple[float, float] = (10, 40)
    """Length of the shortest and the longest streak."""
    angle: tuple[float, float] = (-45, 45)
    """Lowest and highest slant in degrees from vertical; a positive one leans like a slash."""
    gain: tuple[float, float] = (0.4, 1.0)
    """Lowest and highest light of the brightest streak, in units of the full range, before it is
    spread over a width of more than a pixel."""
    screen: float = 0.5
    """Probability that streaks are screened, not added."""
    veil: float = 0.5
    """Probability that the air between the drops veils the scene."""
    mist: Haze = MIST
    """The veil."""

    def __post_init__(self) -> None:
        """Refuse what is empty or no rain."""
        check_ranges(self, density=(0, 1), length_px=(1, 1000), angle=(-90, 90), gain=(0, 1))
        check_parts(self, "screen", "veil")

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq (H, W, C) in the dtype of gt."""
        height, width, channels = gt.shape
        rain = self.streaks((height, width), rng)
        rainy = to_float(gt)
        screened = rng.random() < self.screen
        for channel in range(channels):
            plane = rainy[..., channel]
            plane += (1 - plane) * rain if screened else rain
        if rng.random() < self.veil:
            rainy = self.mist(rainy, rng)
        return like(rainy, gt)

    def streaks(self, size: tuple[int, int], rng: np.random.Generator) -> Plane:
        """Return the brightness (H, W) of all layers, in [0, 1]."""
        density = rng.uniform(*self.density)
        angle = rng.uniform(*self.angle)
        gain = rng.uniform(*self.gain)
        shortest, longest = self.length_px
        total = np.zeros(size, np.float32)
        for layer in LAYERS:
            low, high = (shortest + (longest - shortest) * end for end in layer.length)
            # Drops of one size in one wind fall in parallel, but not quite.
            slant = Slant(size, math.radians(angle + rng.normal(0, 1.5)), math.ceil(high))
            count = rng.poisson(density * layer.share * math.prod(slant.sheet))
            sheet = sparse_lines(slant.sheet, rng.uniform(low, high, count), rng)
            sheet *= np.float32(gain * layer.light)
            # A streak fades at its ends, where the drop enters and leaves the exposure.
            cv2.GaussianBlur(sheet, (9, 7), sigmaX=2, sigmaY=layer.spread_px, dst=sheet)
            total += slant.upright(sheet)
        return np.minimum(total, 1, out=total)


@dataclass(frozen=True)
class Slant:
    """A sheet whose rows run along the rain, and the image it covers when turned."""

    size: tuple[int, int]
    """Height and width of the image."""
    angle: float
    """Radians from vertical; a positive one leans like a slash."""
    margin_px: int
    """Room at the start of each row for streaks that begin outside the image."""

    @property
    def sheet(self) -> tuple[int, int]:
        """Rows (across the rain) and columns (along it) of the sheet."""
        height, width = self.size
        across, along = abs(math.sin(self.angle)), abs(math.cos(self.angle))
        rows = height * across + width * along
        columns = height * along + width * across
        return math.ceil(rows) + 1, math.ceil(columns) + 1 + self.margin_px

    def upright(self, sheet: Plane) -> Plane:
        """Return the part (H, W) of the `sheet` that lies on the image."""
        height, width = self.size
        rows, columns = self.sheet
        x, y = -math.sin(self.angle), math.cos(self.angle)
        column = (columns - 1 + self.margin_px) / 2 - (x * (width - 1) + y * (height - 1)) / 2
        row = (rows - 1) / 2 - (y * (width - 1) - x * (height - 1)) / 2
        pixel_to_sheet = np.array([[x, y, column], [y, -x, row]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        turned = cv2.warpAffine(sheet, pixel_to_sheet, (width, height), flags=flags)
        return np.asarray(turned, np.float32)


def sparse_lines(
    size: tuple[int, int], lengths: NDArray[np.float64], rng: np.random.Generator
) -> Plane:
    """Return a sheet (rows, columns) of lines along the rows, of these `lengths` in pixels.

    Each has a brightness of its own, 0.25 to 1, and lies between two rows. A line is where a
    running sum rises and where it falls again: that takes as long for one as for thousands.
    """
    rows, columns = size
    count = len(lengths)
    start = rng.integers(0, columns, count)
    end = start + np.rint(lengths).astype(np.int64)
    row = rng.integers(0, rows - 1, count)
    light = rng.uniform(0.25, 1, count)
    below = light * rng.random(count)
    steps = np.zeros((rows, columns + 1), np.float32)
    for line, value in ((row, light - below), (row + 1, below)):
        np.add.at(steps, (line, start), value.astype(np.float32))
        np.add.at(steps, (line, np.minimum(end, columns)), -value.astype(np.float32))
    # The sum of what rose and fell leaves a rest of rounding, of either sign.
    return np.maximum(np.cumsum(steps, axis=1, dtype=np.float32)[:, :columns], 0)
