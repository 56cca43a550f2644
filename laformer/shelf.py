"""Where the checkpoints of a run are kept: which are kept, and which one a run continues from.

The shelf itself arrives as a value: this file knows no storage and no Ray.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from laformer import checkpoint
from laformer.checkpoint import Facts
from laformer.errors import CheckpointError, UnfinishedError
from laformer.loop import State

Tell = Callable[[str], None]


class Shelf(Protocol):
    """The checkpoints of one run, by step. What fails here may be any error of the storage."""

    def steps(self) -> list[int]:
        """Return the steps of which anything is there, newest first."""

    def scores(self) -> dict[int, float | None]:
        """Return the score of every complete checkpoint by step; None where it has none."""

    def opened(self, step: int) -> AbstractContextManager[Path]:
        """Lend a folder with the files of a checkpoint."""

    def store(self, step: int, files: Iterable[tuple[str, bytes]]) -> None:
        """Keep these files in their order: with the last one the checkpoint is complete."""

    def drop(self, step: int) -> None:
        """Remove a checkpoint; one that is not there is fine."""


def load_newest(shelf: Shelf, state: State, tell: Tell) -> Facts:
    """Bring a fresh state to the newest good checkpoint; return its facts, none if there is none.

    A bad one is passed over with a warning that names it and the one that is used instead: the
    steps between the two are done again, and are the same. Raises CheckpointError when there are
    complete checkpoints but none is good.
    """
    refused: dict[int, CheckpointError] = {}
    for step in shelf.steps():
        try:
            with shelf.opened(step) as folder:
                facts = checkpoint.load_state(folder, state)
        except CheckpointError as error:
            refused[step] = error
            continue
        for bad, why in refused.items():
            tell(f"warning: using the checkpoint of step {step} instead of step {bad}: {why}")
        return facts
    if all(isinstance(why, UnfinishedError) for why in refused.values()):
        for bad, why in refused.items():
            tell(f"warning: starting at step 0 instead of step {bad}: {why}")
        return {}
    reasons = "; ".join(f"step {step}: {why}" for step, why in refused.items())
    raise CheckpointError(
        f"none of the {len(refused)} checkpoints of this run is good ({reasons}); "
        "train again under another --name, or delete the folder of the run"
    )


def load(shelf: Shelf, step: int, state: State, *, attempts: int = 3) -> None:
    """Bring a fresh state to a checkpoint that is good: damage is then one of the way to here."""
    for attempt in range(1, attempts + 1):
        try:
            with shelf.opened(step) as folder:
                checkpoint.load_state(folder, state)
        except CheckpointError:
            if attempt == attempts:
                raise
        else:
            return


def doomed(scores: dict[int, float | None], present: Iterable[int], keep: int) -> list[int]:
    """Return the steps to remove once the newest of `scores` is complete: oldest first.

    Kept are the last `keep` complete checkpoints and the one with the highest score. Later steps
    than the newest complete one are left alone: they are about to be written again.
    """
    if not scores:
        return []
    kept = set(sorted(scores)[-keep:])
    rated = {step: score for step, score in scores.items() if score is not None}
    if rated:
        # The earlier of two equals, so that it does not change from one checkpoint to the next.
        kept.add(max(rated, key=lambda step: (rated[step], -step)))
    return sorted(step for step in present if step <= max(scores) and step not in kept)
