"""At which steps a start saves, beside the checkpoints of its run."""

from dataclasses import dataclass

PARTS = (8, 4, 2)
"""A start saves after these parts of the steps between two checkpoints."""
LEAST = 10
"""Steps that are worth no checkpoint of their own."""


@dataclass(frozen=True)
class Saving:
    """The steps that are saved without a validation, until the first checkpoint with one.

    Workers may be lost again and again before they come that far: each start gets on all the same,
    as long as it lasts for an eighth of the way. It changes nothing that is trained.
    """

    early: frozenset[int]
    """Steps done by then, since the first step of the run."""

    @classmethod
    def after_start(cls, step: int, every: int) -> "Saving":
        """Return what a start from a step saves in a run with a checkpoint `every` so many."""
        planned = (step // every + 1) * every
        steps = {step + every // part for part in PARTS if every // part >= LEAST}
        return cls(frozenset(each for each in steps if each <= planned - LEAST))
