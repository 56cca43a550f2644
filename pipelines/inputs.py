"""How the input of a benchmark is made of its gt, the same at every call, or where it lies."""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines import images
from pipelines.degradations.bicubic import Bicubic
from pipelines.pixels import Degrade

Gt: TypeAlias = NDArray[np.uint8]
"""(H, W, C) in 8-bit levels, C = 3 (RGB) or 1 (grey)."""

Lq: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""(H, W, C): the dtype tells the range. float32 is in [0, 1], from which noise may leave."""


@dataclass(frozen=True, kw_only=True)
class ProtocolNoise:
    """White Gaussian noise as the published scores were made with: the same for every run.

    RGB order, float, seed 0 for EVERY image, numpy's legacy normal in the shape (H, W, C), not
    clipped and not rounded. BGR order is another realisation; clipping is another task.

    >>> ProtocolNoise(sigma=25)(np.zeros((1, 2, 1), np.uint8)).ravel()
    array([0.1729463, 0.0392311], dtype=float32)
    """

    sigma: float
    """Standard deviation in 8-bit levels."""

    def __post_init__(self) -> None:
        """Check the sign."""
        if self.sigma < 0:
            raise ValueError(f"sigma {self.sigma} is negative; use 0 to 255 levels")

    def __call__(self, gt: Gt) -> NDArray[np.float32]:
        """Return lq (H, W, C) float32 for gt (H, W, C) uint8; 1 is white, values leave [0, 1].

        Raises:
            TypeError: gt is not uint8.
        """
        if gt.dtype != np.uint8:
            raise TypeError(f"gt {gt.dtype} is not uint8; the protocol starts from 8-bit images")
        # The one place that seeds for itself: the protocol is this very generator and seed.
        rng = np.random.RandomState(0)
        noise = rng.normal(0, self.sigma / 255, gt.shape)
        return (gt.astype(np.float32) / 255 + noise).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ProtocolJpeg:
    """JPEG as the published scores were made with: libjpeg on the 8-bit image."""

    quality: int
    """From 1 to 100."""

    def __call__(self, gt: Gt) -> NDArray[np.uint8]:
        """Return lq (H, W, C) uint8 for gt (H, W, C) uint8."""
        return images.recompress(gt, self.quality)


@dataclass(frozen=True, kw_only=True)
class ProtocolBicubic:
    """The input of super-resolution: what MATLAB's `imresize` writes for the uint8 image."""

    scale: int
    """2, 3 or 4."""

    def __call__(self, gt: Gt) -> Any:
        """Return lq (H / scale, W / scale, C) uint8 for gt (H, W, C) uint8.

        Raises:
            ValueError: H or W is no multiple of the scale.
        """
        return Bicubic(scale=self.scale)(gt, np.random.default_rng(0))


@dataclass(frozen=True, kw_only=True)
class SeededByImage:
    """A degradation that draws, made the same at every call: the image's own bytes are the seed.

    Not its name or its place in a list: the same photo has the same lq in any folder.
    """

    degrade: Degrade
    """How a task makes its inputs."""

    def __call__(self, gt: Gt) -> Any:
        """Return lq for gt (H, W, C) uint8: in uint8, or float32 that may leave [0, 1]."""
        seed = int.from_bytes(hashlib.sha256(gt.tobytes()).digest())
        lq = self.degrade(gt, np.random.default_rng(seed))
        return lq.astype(np.float32) if lq.dtype == np.float16 else lq


@dataclass(frozen=True, kw_only=True)
class ModCrop:
    """What the field cuts off so that both sides are multiples of a scale: right and bottom."""

    scale: int
    """How many times smaller the input is."""

    def __call__(self, gt: Gt) -> Gt:
        """Return a view of gt (H, W, C).

        Raises:
            ValueError: the image is smaller than the scale.
        """
        height, width = (side - side % self.scale for side in gt.shape[:2])
        if not height or not width:
            raise ValueError(
                f"image {gt.shape[0]}x{gt.shape[1]} is smaller than the scale {self.scale}; "
                "use larger images"
            )
        return gt[:height, :width]


@dataclass(frozen=True, kw_only=True)
class CentreCrop:
    """The square of `side_px` in the middle of an image."""

    side_px: int
    """Height and width of the crop."""

    def __call__(self, gt: Gt) -> Gt:
        """Return a view (side, side, C) of gt (H, W, C).

        Raises:
            ValueError: the image is smaller than the crop.
        """
        height, width = gt.shape[:2]
        top, left = (height - self.side_px) // 2, (width - self.side_px) // 2
        if top < 0 or left < 0:
            raise ValueError(
                f"image {height}x{width} is smaller than the crop {self.side_px}x{self.side_px}; "
                "use the original images of the benchmark"
            )
        return gt[top : top + self.side_px, left : left + self.side_px]


def whole(gt: Gt) -> Gt:
    """Return gt as it is."""
    return gt


KODAK24 = CentreCrop(side_px=500)
"""`Kodak24` is the centre of each image of the Kodak suite (768x512). Source: FFDNet."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The input lies beside gt: a camera took it, or others made it. It is read, not made."""

    folders: tuple[str, ...]
    """Of lq below the benchmark root: one, or those of the left and the right view."""
    match: tuple[str, str] | None = None
    """Regular expression found in the path of an lq without its suffix, and what its gt has there
    instead: several lq may have one gt. Without it both have the same name."""
    in_order: bool = False
    """Whether names say nothing: the first lq by name belongs to the first gt."""
    only: str = ""
    """File below the benchmark root, made by `numpy.save`, of the numbers of the images in order
    that are meant, from 1 on; all when empty."""

    def __call__(self, gt: Gt) -> Lq:
        """Refuse: there is nothing to make."""
        raise TypeError(f"lq of gt {gt.shape} is in {', '.join(self.folders)}; read it there")
