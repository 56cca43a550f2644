"""A scene: the image of one visit, or the images of a pair, ready to be cut into samples."""

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from pipelines.pairs import Captured, Pairs, Synthesised
from pipelines.pixels import Degraded, Pixels


class Picture(Protocol):
    """What crops are cut from: decoded pixels, or tiles that are decoded when they are needed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels."""

    def crop(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Return (height, width, C) in the stored bit depth."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image."""

    pixels: Pixels
    """(H, W, C)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return self.pixels.shape

    def crop(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Return a view."""
        return self.pixels[top : top + height, left : left + width]


@dataclass(frozen=True)
class Form:
    """What all samples of a stream have in common, so that they fit into one array."""

    bits: int
    """Bits per level, 8 or 16."""
    channels: int
    """1 grey, 3 RGB."""

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return (H, W, C) levels in this form; 255 of 8 bits becomes 65535 of 16."""
        if self.channels == 1 and pixels.shape[2] == 3:
            pixels = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[:, :, None]
        elif self.channels == 3 and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if pixels.dtype == np.uint8 and self.bits == 16:
            return pixels.astype(np.uint16) * np.uint16(257)
        return pixels


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Where a sample is cut, in pixels of gt, and how it is turned then."""

    top: int
    left: int
    height: int
    width: int
    turns: int = 0
    """Quarter turns counter-clockwise."""
    mirrored: bool = False
    """Left and right swapped after turning."""

    @classmethod
    def draw(
        cls, shape: tuple[int, ...], side_px: int, pairs: Pairs, rng: np.random.Generator
    ) -> "Crop":
        """Draw a square; where pixels of lq lie between pixels of gt it starts with one of lq."""
        scale = pairs.scale
        top, left = (
            scale * int(rng.integers((length - side_px) // scale + 1)) for length in shape[:2]
        )
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        if isinstance(pairs, Captured) and pairs.views == 2:
            # A quarter turn would make the left and the right view an upper and a lower one.
            turns = turns // 2 * 2
        return cls(
            top=top, left=left, height=side_px, width=side_px, turns=turns, mirrored=mirrored
        )

    @classmethod
    def centre(cls, shape: tuple[int, ...], side_px: int, scale: int) -> "Crop":
        """Return the square in the middle, or as much of it as there is, whole pixels of lq."""
        height, width = (min(side_px, length) // scale * scale for length in shape[:2])
        top, left = (
            (length - side) // 2 // scale * scale
            for length, side in ((shape[0], height), (shape[1], width))
        )
        return cls(top=top, left=left, height=height, width=width)

    def turn(self, pixels: Pixels) -> Pixels:
        """Return (H, W, C) pixels turned and mirrored, contiguous."""
        turned = cv2.rotate(pixels, _ROTATE[self.turns]) if self.turns else pixels
        turned = cv2.flip(turned, 1) if self.mirrored else turned
        # OpenCV drops an axis of length one.
        return np.ascontiguousarray(turned).reshape(*turned.shape[:2], pixels.shape[2])


_ROTATE = (-1, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


@dataclass(frozen=True, eq=False)
class Scene:
    """The images of one visit."""

    gt: Picture
    """The clean image."""
    views: tuple[Picture, ...] = ()
    """Captured lq; none when it is synthesised."""

    def cut(
        self, crop: Crop, pairs: Pairs, form: Form, rng: np.random.Generator
    ) -> tuple[Pixels, Degraded]:
        """Return gt and lq of a crop; gt keeps nothing of the scene alive."""
        match pairs:
            case Synthesised():
                return self._synthesise(crop, pairs, form, rng)
            case Captured(scale=scale):
                gt = form(self.gt.crop(crop.top, crop.left, crop.height, crop.width))
                place = [side // scale for side in (crop.top, crop.left, crop.height, crop.width)]
                views = [crop.turn(form(view.crop(*place))) for view in self.views]
                if crop.mirrored != (crop.turns == 2):
                    # What was on the left of the lens is on its right now.
                    views.reverse()
                return crop.turn(gt), np.concatenate(views, axis=2)

    def _synthesise(
        self, crop: Crop, pairs: Synthesised, form: Form, rng: np.random.Generator
    ) -> tuple[Pixels, Degraded]:
        """Degrade the crop together with what lies around it, as far as that reaches into it."""
        scale, margin = pairs.scale, pairs.margin_px
        height, width = (length // scale * scale for length in self.gt.shape[:2])
        top, left = max(0, crop.top - margin), max(0, crop.left - margin)
        bottom = min(height, crop.top + crop.height + margin)
        right = min(width, crop.left + crop.width + margin)
        around = crop.turn(form(self.gt.crop(top, left, bottom - top, right - left)))
        # Above, right, below and left of the crop; a turn moves each side on by one.
        sides = [
            crop.top - top,
            right - crop.left - crop.width,
            bottom - crop.top - crop.height,
            crop.left - left,
        ]
        sides = sides[crop.turns :] + sides[: crop.turns]
        if crop.mirrored:
            sides[1], sides[3] = sides[3], sides[1]
        return trim(around, sides, 1), trim(pairs.degrade(around, rng), sides, scale)


def trim(pixels: Any, sides: list[int], scale: int) -> Any:
    """Cut pixels of gt, divided by `scale`, from above, right, below and left."""
    top, right, bottom, left = (side // scale for side in sides)
    height, width = pixels.shape[:2]
    return pixels[top : height - bottom, left : width - right]
