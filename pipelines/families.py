"""What a benchmark is, and the families that differ in a number: sigma, quality or scale."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipelines.degradations.bicubic import imresize
from pipelines.inputs import (
    Gt,
    Lq,
    ModCrop,
    ProtocolBicubic,
    ProtocolJpeg,
    ProtocolNoise,
    SeededByImage,
    whole,
)
from pipelines.pixels import Degrade, scale_of
from pipelines.protocols import (
    GAUSSIAN_COLOUR,
    GAUSSIAN_GREY,
    HELD_OUT_RGB,
    JPEG_COLOUR,
    JPEG_GREY,
    Protocol,
    sr_y,
)


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
    """How the input is made: gt -> lq, the same at every call; or, as `Taken`, where it lies."""
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
    """Return the benchmark `<folder>-sigma<sigma>`: RGB denoising, sigma in 8-bit levels.

    Of a folder in a folder, the outer one gives the name.
    """
    return Benchmark(
        name=f"{folder.partition('/')[0]}-sigma{sigma:g}",
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


def jpeg_colour(folder: str, quality: int) -> Benchmark:
    """Return the benchmark `<folder>-colour-q<quality>`: JPEG artefacts of colour images."""
    return Benchmark(
        name=f"{folder}-colour-q{quality}",
        folder=folder,
        task="jpeg",
        protocol=JPEG_COLOUR,
        degrade=ProtocolJpeg(quality=quality),
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
