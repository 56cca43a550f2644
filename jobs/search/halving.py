"""Asynchronous successive halving: which trials go on at which steps, and what they may not cost.

A rung is a number of steps. A trial that reaches it goes on if it is among the best 1 / factor of
those that reached it before it. Source: Li et al., "A System for Massively Parallel Hyperparameter
Tuning" (ASHA), 2018, in the variant of Ray Tune, which stops trials instead of holding them. That
lets every new best go on, which are nearly all trials as long as Optuna learns: here no more than
that part of a rung and a few go on. Ray's own also forgets its rungs when a search is resumed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from jobs.search.journal import Record

FACTOR = 4
"""One in so many goes on."""
PARTS = (12, 3)
"""A trial may end after a twelfth and after a third of its steps."""
SPARE = 2
"""Trials that may go on beyond that part: the first ones are compared with few."""
QUARTERS = 4
"""Validations of a trial that nothing ends."""


def milestones(steps: int, *, halving: bool) -> tuple[int, ...]:
    """Return the steps after which trials are validated, the last one included.

    >>> milestones(600, halving=True), milestones(600, halving=False)
    ((50, 200, 400, 600), (150, 300, 450, 600))
    """
    if halving:
        return tuple(sorted({*rungs(steps), round(steps * 2 / 3), steps}))
    quarters = (round(steps * part / QUARTERS) for part in range(1, QUARTERS + 1))
    return tuple(sorted({max(1, step) for step in quarters}))


def eighths(steps: int) -> tuple[int, ...]:
    """Return the steps after which a population compares its members, the last one included."""
    return tuple(sorted({-(-steps * part // 8) for part in range(1, 9)}))


def rungs(steps: int) -> tuple[int, ...]:
    """Return the steps at which a trial may be ended, each a multiple of the first."""
    first = -(-steps // PARTS[0])
    found = {first * PARTS[0] // part for part in PARTS}
    return tuple(sorted(step for step in found if step < steps))


@dataclass
class Rungs:
    """Who reached which rung, and how well."""

    at: tuple[int, ...]
    """Steps of the rungs; none ends no trial."""
    reached: dict[int, dict[int, float]] = field(default_factory=dict)
    """Number and PSNR of trials, by rung."""

    passed: dict[int, set[int]] = field(default_factory=dict)
    """Numbers of the trials that went on, by rung."""

    def load(self, records: Iterable[Record]) -> None:
        """Take note of what trials reached before."""
        for record in records:
            for step, psnr_db in record.points:
                if step in self.at:
                    self.reached.setdefault(step, {})[record.number] = psnr_db
                    if record.steps > step:
                        self.passed.setdefault(step, set()).add(record.number)

    def passes(self, number: int, step: int, psnr_db: float) -> bool:
        """Take note of a result; return whether the trial goes on."""
        if step not in self.at:
            return True
        rung = self.reached.setdefault(step, {})
        passed = self.passed.setdefault(step, set())
        others = [score for other, score in rung.items() if other != number]
        rung[number] = psnr_db
        room = len(passed - {number}) < math.ceil(len(rung) / FACTOR) + SPARE
        good = not others or psnr_db >= np.percentile(others, 100 * (1 - 1 / FACTOR))
        if good and room:
            passed.add(number)
        return bool(good and room)
