"""How sure a mean over images is: the bootstrap, seeded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES, LEVEL = 2000, 0.95
"""How many means are drawn, and the share of them inside the interval."""


@dataclass(frozen=True)
class Interval:
    """Where the mean lies if other images of the kind are measured."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64]) -> "Interval | None":
        """Return the interval of a mean; None where a value is infinite: there is no mean.

        >>> Interval.of([30.0, 30.0, 30.0])
        Interval(low=30.0, high=30.0)
        """
        found = np.asarray(values, np.float64)
        if not np.isfinite(found).all():
            return None
        rng = np.random.default_rng(0)  # the same scores have the same interval again
        size = len(found)
        means = [found[rng.integers(size, size=size)].mean() for _ in range(RESAMPLES)]
        low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return cls(float(low), float(high))
