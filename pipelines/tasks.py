"""What can be restored: one entry per task, read top to bottom."""

from dataclasses import dataclass, replace

from pipelines.degradations import (
    Bicubic,
    Chain,
    Defocus,
    DualPixelDefocus,
    GaussianNoise,
    Haze,
    Jpeg,
    LowLight,
    MotionBlur,
    OneOf,
    PoissonGaussian,
    Rain,
    Raindrops,
    Snow,
    Sometimes,
    second_order,
)
from pipelines.errors import DataError
from pipelines.families import (
    Benchmark,
    gaussian_grey,
    held_out,
    held_out_by,
    held_out_jpeg,
    held_out_sr,
)
from pipelines.pairs import Synthesised
from pipelines.pixels import Degrade


@dataclass(frozen=True, kw_only=True)
class Task:
    """The facts of a task. They are not flags: another fact is another task."""

    title: str
    """What a person would call it."""
    pairs: Synthesised
    """How lq is made of clean photos; a manifest of captured pairs takes its place."""
    channels: int = 3
    """Of gt: 1 grey, 3 RGB."""
    views: int = 1
    """Images of lq for each gt, stacked as channels: 2 for a dual-pixel camera."""
    gate: Benchmark
    """How a user's held-out photos judge a model before it is promoted."""


def judged_as_trained(name: str, title: str, degrade: Degrade, views: int = 1) -> Task:
    """Return a task whose gate degrades the held-out photos as training does."""
    return Task(
        title=title,
        pairs=Synthesised(degrade),
        views=views,
        gate=held_out_by(name, degrade),
    )


def super_resolution(scale: int) -> Task:
    """Return the task of undoing MATLAB's bicubic reduction."""
    return Task(
        title=f"super-resolution x{scale}",
        pairs=Synthesised(Bicubic(scale=scale)),
        gate=held_out_sr(scale),
    )


TASKS: dict[str, Task] = {
    "denoise-gaussian": Task(
        title="blind Gaussian colour denoising, sigma 0 to 50",
        pairs=Synthesised(GaussianNoise(sigma=(0, 50))),
        gate=held_out(25),
    ),
    "denoise-gaussian-25": Task(
        title="Gaussian colour denoising at sigma 25",
        pairs=Synthesised(GaussianNoise(sigma=(25, 25))),
        gate=held_out(25),
    ),
    "denoise-gaussian-grey": Task(
        title="blind Gaussian grey denoising, sigma 0 to 50",
        pairs=Synthesised(GaussianNoise(sigma=(0, 50))),
        channels=1,
        gate=replace(gaussian_grey("held-out", 25), name="held-out-grey-sigma25"),
    ),
    "denoise-real": judged_as_trained(
        "denoise-real",
        "noise of a camera, as its files have it",
        Chain(PoissonGaussian(), Sometimes(0.5, Jpeg(quality=(70, 98)))),
    ),
    "jpeg": Task(
        title="JPEG artefacts, quality 10 to 95",
        pairs=Synthesised(Jpeg(quality=(10, 95))),
        gate=held_out_jpeg(20),
    ),
    "deblur-motion": judged_as_trained("deblur-motion", "motion blur", MotionBlur()),
    "deblur-defocus": judged_as_trained("deblur-defocus", "defocus blur", Defocus()),
    "deblur-defocus-dual": judged_as_trained(
        "deblur-defocus-dual",
        "defocus blur from the two views of a dual-pixel camera",
        DualPixelDefocus(),
        views=2,
    ),
    "derain": judged_as_trained("derain", "rain", Rain()),
    "desnow": judged_as_trained("desnow", "snow", Snow()),
    "dehaze": judged_as_trained("dehaze", "haze", Haze()),
    "weather": judged_as_trained(
        "weather",
        "bad weather: rain with its veil, raindrops on the lens or snow",
        OneOf(Rain(veil=1.0), Raindrops(), Snow()),
    ),
    "lowlight": judged_as_trained("lowlight", "too little light", LowLight()),
    "sr-x2": super_resolution(2),
    "sr-x3": super_resolution(3),
    "sr-x4": super_resolution(4),
    "sr-x4-blind": judged_as_trained(
        "sr-x4-blind", "super-resolution x4 of photos of unknown history", second_order(4)
    ),
}


def find(name: str) -> Task:
    """Return a task. Raises DataError naming what exists."""
    if name not in TASKS:
        raise DataError(f"unknown task {name!r}; use one of: {', '.join(TASKS)}")
    return TASKS[name]
