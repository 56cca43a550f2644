"""Degradations made of degradations: one after another, one of several, one now and then."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from pipelines.pixels import Degrade, Pixels, like, margin_of, scale_of, to_float

Frame: TypeAlias = tuple[int, int]
"""Height and width, in px, of the gt that enters the outermost chain."""


@runtime_checkable
class Framed(Protocol):
    """A step that must know the size of gt, for others have resized what it sees.

    What composes degradations calls `within` with that size before the first step runs, and runs
    what comes back in the step's place. So a size that cannot work is refused before any work. A
    framed step that is called alone takes what it sees for gt.
    """

    def within(self, frame: Frame) -> Degrade:
        """Return the step bound to the size of gt. Raises ValueError where it cannot work."""
        ...


def bind(step: Degrade, frame: Frame) -> Degrade:
    """Return what runs in the place of a step: itself, unless it must know the size of gt."""
    return step.within(frame) if isinstance(step, Framed) else step


@dataclass(frozen=True, init=False, repr=False)
class Chain:
    """One step after another on float32, the result rounded and clipped once.

    Chains nest: only the outermost rounds, and its gt is the frame of all.
    """

    steps: tuple[Degrade, ...]
    """What happens to gt, first to last."""

    def __init__(self, *steps: Degrade) -> None:
        """Take the steps in their order."""
        object.__setattr__(self, "steps", steps)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.steps))})"

    @property
    def scale(self) -> int:
        """By how much lq is smaller than gt: the product over the steps."""
        return math.prod(map(scale_of, self.steps))

    @property
    def margin_px(self) -> int:
        """Pixels of gt around a crop that are needed: a step after a reduction needs as many more.

        Rounded up to whole pixels of lq.
        """
        total, reduced = 0, 1
        for step in self.steps:
            total += reduced * margin_of(step)
            reduced *= scale_of(step)
        return -(-total // reduced) * reduced

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return lq in the dtype of gt, as large as the steps make it."""
        return self.within(gt.shape[:2])(gt, rng)

    def within(self, frame: Frame) -> Degrade:
        """Return the chain with its steps bound to the size of gt."""
        steps = [bind(step, frame) for step in self.steps]

        def run(gt: Pixels, rng: np.random.Generator) -> Any:
            values = to_float(gt)
            for step in steps:
                values = step(values, rng)
            return like(values, gt)

        return run


@dataclass(frozen=True, init=False, repr=False)
class OneOf:
    """One choice for each sample, drawn by weight."""

    choices: tuple[Degrade, ...]
    """What may happen to gt. All have the same `scale`."""
    weights: tuple[float, ...]
    """How often each is drawn, relative to the others; all equally when none are given."""

    def __init__(self, *choices: Degrade, weights: Sequence[float] = ()) -> None:
        """Refuse weights that cannot be drawn by, and choices of unequal size."""
        weights = tuple(weights) or (1,) * len(choices)
        if len(weights) != len(choices) or min(weights, default=0) < 0 or not sum(weights) > 0:
            raise ValueError(
                f"weights {weights} are not one of at least 0 for each of {len(choices)} choices, "
                "with a sum above 0; use for example OneOf(a, b, weights=(0.9, 0.1))"
            )
        scales = [scale_of(choice) for choice in choices]
        if len(set(scales)) > 1:
            raise ValueError(
                f"choices reduce by {scales}, and samples of a batch are of one size; use choices "
                "of one scale, for example OneOf(Chain(a, resize), Chain(b, resize))"
            )
        object.__setattr__(self, "choices", choices)
        object.__setattr__(self, "weights", weights)

    def __repr__(self) -> str:
        return f"OneOf({', '.join(map(repr, self.choices))}, weights={self.weights})"

    @property
    def scale(self) -> int:
        """By how much lq is smaller than gt, whichever is drawn."""
        return scale_of(self.choices[0])

    @property
    def margin_px(self) -> int:
        """How many px around a crop are needed: the most of any choice."""
        return max(map(margin_of, self.choices))

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return what the drawn choice returns."""
        return self.within(gt.shape[:2])(gt, rng)

    def within(self, frame: Frame) -> Degrade:
        """Return the draw among choices bound to the size of gt."""
        choices = [bind(choice, frame) for choice in self.choices]
        bounds = list(accumulate(self.weights))

        def run(gt: Pixels, rng: np.random.Generator) -> Any:
            drawn = bisect(bounds, rng.random() * bounds[-1], hi=len(bounds) - 1)
            return choices[drawn](gt, rng)

        return run


@dataclass(frozen=True)
class Sometimes:
    """The step with a probability, drawn for each sample; else gt as it is."""

    probability: float
    """How often the step happens, from 0 to 1."""
    step: Degrade
    """What happens then. It keeps the size: its `scale` is 1."""

    def __post_init__(self) -> None:
        """Refuse what is no probability, and a step after which sizes would differ."""
        if not 0 <= self.probability <= 1:
            raise ValueError(
                f"probability {self.probability} is outside [0, 1]; use for example 0.8"
            )
        if self.scale != 1:
            raise ValueError(
                f"the step reduces by {self.scale}, and samples of a batch are of one size; "
                "use a step of scale 1"
            )

    @property
    def scale(self) -> int:
        """By how much lq is smaller than gt: always 1."""
        return scale_of(self.step)

    @property
    def margin_px(self) -> int:
        """How many px around a crop are needed when the step happens."""
        return margin_of(self.step)

    def __call__(self, gt: Pixels, rng: np.random.Generator) -> Any:
        """Return what the step returns, or a copy of gt."""
        return self.within(gt.shape[:2])(gt, rng)

    def within(self, frame: Frame) -> Degrade:
        """Return the draw with its step bound to the size of gt."""
        step = bind(self.step, frame)

        def run(gt: Pixels, rng: np.random.Generator) -> Any:
            return step(gt, rng) if rng.random() < self.probability else gt.copy()

        return run
