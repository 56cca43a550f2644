"""Steps that are skipped: a gradient that is no number must not touch the weights."""

import logging
from dataclasses import dataclass

from laformer.batches import Array
from laformer.errors import TrainingError

SHOWN = 8
"""Sample ids that a message names."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """One step without a usable gradient, as one worker sees it."""

    step: int
    """The step, 0-based."""
    loss: float
    """Mean loss of this worker's samples. A number: the fault is another worker's, or overflow."""
    grad_norm: float
    """Norm of the gradient over all workers: infinite or no number."""
    sample_ids: Array
    """What this worker computed it from."""

    def __str__(self) -> str:
        """Say what happened, and on what."""
        ids = self.sample_ids.tolist()
        named = ", ".join(map(str, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")
        return (
            f"step {self.step}: the gradient's norm is {self.grad_norm:.4g}; the loss of this "
            f"worker's samples {named} is {self.loss:.4g}"
        )


@dataclass
class Skips:
    """How many steps were skipped. In every checkpoint, so that a resumed run counts on."""

    total: int = 0
    """Since the first step."""
    in_row: int = 0
    """Up to the present step."""

    def done(self) -> None:
        """Count a step that was not skipped."""
        self.in_row = 0

    def skip(self, failed: Failed, most: int) -> None:
        """Count a skipped step and log it. Raises TrainingError above `most` in a row."""
        self.total += 1
        self.in_row += 1
        if self.in_row > most:
            raise TrainingError(
                f"{failed}; that is {self.in_row} in a row (max_skipped {most}), "
                f"{self.total} in all; lower lr or clip_norm, or look at these samples, "
                "and start again under a new name"
            )
        logging.getLogger(__name__).warning(
            "skipped %s (%d in a row of at most %d)", failed, self.in_row, most
        )
