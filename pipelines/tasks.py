"""What can be restored: one entry per task, read top to bottom."""

from dataclasses import dataclass

from pipelines.degradations import GaussianNoise
from pipelines.pairs import Synthesised


@dataclass(frozen=True, kw_only=True)
class Task:
    """The facts of a task. They are not flags: another fact is another task."""

    title: str
    """What a person would call it."""
    pairs: Synthesised
    """How training pairs come about."""
    benchmarks: tuple[str, ...]
    """Names in `BENCHMARKS` whose data a user may have."""
    gate_sigma: int
    """Noise level, in 8-bit levels, of the held-out benchmark that guards promotion."""


_DENOISE = ("cbsd68-sigma25", "kodak24-sigma25")

TASKS: dict[str, Task] = {
    "denoise-gaussian": Task(
        title="blind Gaussian colour denoising, sigma 0 to 50",
        pairs=Synthesised(GaussianNoise(sigma=(0, 50))),
        benchmarks=_DENOISE,
        gate_sigma=25,
    ),
    "denoise-gaussian-25": Task(
        title="Gaussian colour denoising at sigma 25",
        pairs=Synthesised(GaussianNoise(sigma=(25, 25))),
        benchmarks=_DENOISE,
        gate_sigma=25,
    ),
}
