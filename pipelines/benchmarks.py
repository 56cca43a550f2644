"""What is measured, and by which rule: one entry per benchmark, read top to bottom.

A PSNR means nothing without its protocol, so a benchmark names one and its name is printed beside
every number. Images reach a benchmark as (H, W, C) uint8, RGB or one grey channel.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines import images
from pipelines.degradations.bicubic import Bicubic, imresize
from pipelines.pixels import Degrade, scale_of

Gt: TypeAlias = NDArray[np.uint8]
"""(H, W, C) in 8-bit levels, C = 3 (RGB) or 1 (grey)."""

Lq: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""(H, W, C): the dtype tells the range. float32 is in [0, 1], from which noise may leave."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a restored image is compared with its gt. Two protocols never share a name."""

    name: str
    """Printed beside every number."""
    channel: Literal["rgb", "y", "y-rounded", "grey"]
    """What is compared: all of RGB, grey, or Y of BT.601 studio range (16-235).

    "y-rounded" is Y in whole levels, which MATLAB's `rgb2ycbcr` makes of a uint8 image.
    """
    border_px: int = 0
    """Pixels ignored on each side, before the channel is taken."""
    quantise: bool = True
    """Whether the output is clipped and rounded to uint8 first."""
    ssim: bool = False
    """Whether SSIM is reported too: 11x11 Gaussian of sigma 1.5, valid area, same channel."""

    def __post_init__(self) -> None:
        """Check the border, and that there is something to round."""
        if self.border_px < 0:
            raise ValueError(f"border_px {self.border_px} is negative; use 0 for no border")
        if self.channel == "y-rounded" and not self.quantise:
            raise ValueError(
                "channel 'y-rounded' is made of uint8, but quantise is False; use channel 'y'"
            )


def sr_y(scale: int) -> Protocol:
    """Return the protocol of super-resolution by `scale`: rounded Y of the uint8 output.

    The border is the scale. Source: SRCNN and the MATLAB scripts after it, which take `rgb2ycbcr`
    of uint8; the known scores of bicubic enlargement are these. Code bases in Python (BasicSR)
    leave Y unrounded, which reads higher: bicubic on Set5 by 0.03 dB at x2, by 0.01 dB at x4.
    """
    return Protocol(name=f"sr-y-x{scale}", channel="y-rounded", border_px=scale, ssim=True)


GAUSSIAN_COLOUR = Protocol(name="gaussian-colour", channel="rgb")
"""PSNR on RGB of the uint8 output. Source: FFDNet, DRUNet, SwinIR, Restormer."""

GAUSSIAN_GREY = Protocol(name="gaussian-grey", channel="grey")
"""PSNR on the uint8 output. Source: DnCNN and the same."""

JPEG_GREY = Protocol(name="jpeg-grey", channel="grey", ssim=True)
"""PSNR and SSIM on the uint8 output of grey images. Source: DnCNN, SwinIR."""


JPEG_COLOUR = Protocol(name="jpeg-colour", channel="rgb", ssim=True)
"""PSNR and SSIM on RGB of the uint8 output, for photos of one's own."""

HELD_OUT_RGB = Protocol(name="held-out-rgb", channel="rgb", ssim=True)
"""PSNR and SSIM on RGB of the uint8 output, for photos of one's own and any degradation."""


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


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A folder of gt images, how each becomes a pair, and how the restored one is judged."""

    name: str
    """Its key in `BENCHMARKS`."""
    folder: str
    """Name of the folder of gt images below the benchmark root."""
    task: str
    """Name of the task it measures."""
    protocol: Protocol
    """How restored and gt are compared."""
    prepare: Callable[[Gt], Gt] = whole
    """What the field makes of an image before anything else: file -> gt."""
    degrade: Callable[[Gt], Lq]
    """How the input is made: gt -> lq, the same at every call."""
    enlarge: int = 1
    """How many times smaller than gt the input is on each side."""
    published: tuple[tuple[str, float], ...] = ()
    """Published mean PSNR in dB under this protocol, as (model, score), to place ours beside."""

    def shown(self, lq: Lq) -> Any:
        """Return lq as an image of the size of gt, as it is shown and scored.

        A smaller one is enlarged as MATLAB enlarges doubles, then rounded to the dtype of lq. Of
        the two views of a dual-pixel camera it is the left one.
        """
        lq = lq[:, :, :3]
        if self.enlarge == 1:
            return lq
        height, width = (side * self.enlarge for side in lq.shape[:2])
        return imresize(lq, height, width, round_between=False)


def gaussian_colour(
    folder: str,
    sigma: float,
    *,
    prepare: Callable[[Gt], Gt] = whole,
    published: tuple[tuple[str, float], ...] = (),
) -> Benchmark:
    """Return the benchmark `<folder>-sigma<sigma>`: RGB denoising, sigma in 8-bit levels."""
    return Benchmark(
        name=f"{folder}-sigma{sigma:g}",
        folder=folder,
        task="denoise-gaussian",
        protocol=GAUSSIAN_COLOUR,
        prepare=prepare,
        degrade=ProtocolNoise(sigma=sigma),
        published=published,
    )


def gaussian_grey(folder: str, sigma: float) -> Benchmark:
    """Return the benchmark `<folder>-sigma<sigma>`: grey denoising, sigma in 8-bit levels."""
    return Benchmark(
        name=f"{folder}-sigma{sigma:g}",
        folder=folder,
        task="denoise-gaussian-grey",
        protocol=GAUSSIAN_GREY,
        degrade=ProtocolNoise(sigma=sigma),
    )


def jpeg_grey(
    folder: str, quality: int, *, published: tuple[tuple[str, float], ...] = ()
) -> Benchmark:
    """Return the benchmark `<folder>-q<quality>`: JPEG artefacts of grey images."""
    return Benchmark(
        name=f"{folder}-q{quality}",
        folder=folder,
        task="jpeg",
        protocol=JPEG_GREY,
        degrade=ProtocolJpeg(quality=quality),
        published=published,
    )


def super_resolution(
    folder: str, scale: int, *, published: tuple[tuple[str, float], ...] = ()
) -> Benchmark:
    """Return the benchmark `<folder>-x<scale>` of the images in `<folder>/hr`.

    Published scores are on Y that is not rounded: see `sr_y`.
    """
    return Benchmark(
        name=f"{folder}-x{scale}",
        folder=f"{folder}/hr",
        task=f"sr-x{scale}",
        protocol=sr_y(scale),
        prepare=ModCrop(scale=scale),
        degrade=ProtocolBicubic(scale=scale),
        enlarge=scale,
        published=published,
    )


def held_out_sr(scale: int) -> Benchmark:
    """Return the benchmark of a user's own photos, made smaller by `scale` on each side."""
    return replace(super_resolution("held-out", scale), folder="held-out")


def held_out_by(task: str, degrade: Degrade) -> Benchmark:
    """Return the benchmark of a user's own photos, degraded as the task does in training.

    What is drawn depends on the photo alone.
    """
    scale = scale_of(degrade)
    return Benchmark(
        name=f"held-out-{task}",
        folder="held-out",
        task=task,
        protocol=HELD_OUT_RGB,
        prepare=whole if scale == 1 else ModCrop(scale=scale),
        degrade=SeededByImage(degrade=degrade),
        enlarge=scale,
    )


def held_out_jpeg(quality: int) -> Benchmark:
    """Return the benchmark of a user's own photos, compressed and judged in colour."""
    return Benchmark(
        name=f"held-out-q{quality}",
        folder="held-out",
        task="jpeg",
        protocol=JPEG_COLOUR,
        degrade=ProtocolJpeg(quality=quality),
    )


def held_out(sigma: float) -> Benchmark:
    """Return the benchmark of a user's own photos, in the folder `held-out`: noise as the others'.

    It judges a model on the images it is for, and needs no public data.
    """
    return gaussian_colour("held-out", sigma)


KODAK24 = CentreCrop(side_px=500)
"""`Kodak24` is the centre of each image of the Kodak suite (768x512). Source: FFDNet."""

_TABLE = (
    gaussian_colour("cbsd68", 15, published=(("SwinIR", 34.42),)),
    gaussian_colour("cbsd68", 25, published=(("FFDNet", 31.21), ("SwinIR", 31.78))),
    gaussian_colour("cbsd68", 50, published=(("SwinIR", 28.56), ("Restormer", 28.60))),
    gaussian_colour("kodak24", 15, prepare=KODAK24, published=(("SwinIR", 35.34),)),
    gaussian_colour(
        "kodak24", 25, prepare=KODAK24, published=(("FFDNet", 32.13), ("SwinIR", 32.89))
    ),
    gaussian_colour(
        "kodak24", 50, prepare=KODAK24, published=(("SwinIR", 29.79), ("Restormer", 30.01))
    ),
    gaussian_grey("set12", 15),
    gaussian_grey("set12", 25),
    gaussian_grey("set12", 50),
    jpeg_grey("classic5", 10, published=(("MambaIR", 30.27),)),
    jpeg_grey("classic5", 20),
    jpeg_grey("classic5", 30, published=(("MambaIR", 33.74),)),
    jpeg_grey("classic5", 40, published=(("MambaIR", 34.53),)),
    super_resolution("set5", 2),
    super_resolution("set5", 3),
    super_resolution("set5", 4, published=(("SwinIR", 32.92), ("HAT", 33.04))),
    super_resolution("set14", 2),
    super_resolution("set14", 4, published=(("SwinIR", 29.09), ("HAT", 29.23))),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _TABLE}
