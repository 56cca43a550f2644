"""Asynchronous successive halving: which trials go on at which steps, and what they may not cost.

A rung is a number of steps. A trial that reaches it goes on if it is among the best 1 / factor of
those that reached it before it. Source: Li et al., "A System for Massively Parallel Hyperparameter
Tuning" (ASHA), 2018, in the variant of Ray Tune, which stops trials instead of holding them. Ray's
own forgets its rungs when a search is resumed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from jobs.journal import Record

FACTOR = 4
"""One in so many goes on."""
RUNGS = 2
"""Rungs before the last step: a trial may end after 1/16 and 1/4 of the steps."""
QUARTERS = 4
"""Validations of a trial that nothing ends."""


def milestones(steps: int, *, halving: bool) -> tuple[int, ...]:
    """Return the steps after which trials are validated, the last one included.

    >>> milestones(600, halving=True), milestones(600, halving=False)
    ((38, 152, 300, 450, 600), (150, 300, 450, 600))
    """
    first = 2 if halving else 1  # the second rung is about a quarter
    found = {max(1, round(steps * part / QUARTERS)) for part in range(first, QUARTERS + 1)}
    return tuple(sorted(found | set(rungs(steps) if halving else ())))


def eighths(steps: int) -> tuple[int, ...]:
    """Return the steps after which a population compares its members, the last one included."""
    return tuple(sorted({-(-steps * part // 8) for part in range(1, 9)}))


def rungs(steps: int) -> tuple[int, ...]:
    """Return the steps at which a trial may be ended, each a multiple of the first."""
    first = -(-steps // FACTOR**RUNGS)
    found = {first * FACTOR**power for power in range(RUNGS)}
    return tuple(sorted(step for step in found if step < steps))


@dataclass
class Rungs:
    """Who reached which rung, and how well."""

    at: tuple[int, ...]
    """Steps of the rungs; none ends no trial."""
    reached: dict[int, dict[int, float]] = field(default_factory=dict)
    """Number and PSNR of trials, by rung."""

    def load(self, records: Iterable[Record]) -> None:
        """Take note of what trials reached before."""
        for record in records:
            for step, psnr_db in record.points:
                if step in self.at:
                    self.reached.setdefault(step, {})[record.number] = psnr_db

    def passes(self, number: int, step: int, psnr_db: float) -> bool:
        """Take note of a result; return whether the trial goes on."""
        if step not in self.at:
            return True
        rung = self.reached.setdefault(step, {})
        others = [score for other, score in rung.items() if other != number]
        rung[number] = psnr_db
        return not others or bool(psnr_db >= np.percentile(others, 100 * (1 - 1 / FACTOR)))
