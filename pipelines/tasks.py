"""What can be restored: one entry per task, read top to bottom."""

from dataclasses import dataclass

from pipelines.benchmarks import Benchmark, held_out, held_out_jpeg
from pipelines.degradations import GaussianNoise, Jpeg
from pipelines.errors import DataError
from pipelines.pairs import Synthesised


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
    "jpeg": Task(
        title="JPEG artefacts, quality 10 to 95",
        pairs=Synthesised(Jpeg(quality=(10, 95))),
        gate=held_out_jpeg(20),
    ),
}


def find(name: str) -> Task:
    """Return a task. Raises DataError naming what exists."""
    if name not in TASKS:
        raise DataError(f"unknown task {name!r}; use one of: {', '.join(TASKS)}")
    return TASKS[name]
