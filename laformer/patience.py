"""When a run has stopped getting better: counted in validations, kept in its checkpoints."""

from dataclasses import dataclass
from typing import Any

BEST_DB, BEST_STEP, SINCE_BEST = "best_val_psnr_db", "best_step", "validations_since_best"
"""Names of the record in the facts of a checkpoint and in what is reported of it."""

ENDED_EARLY = "ended_early"
"""Number recorded at the step where patience ended a run: validations without a better one."""


@dataclass(frozen=True)
class Record:
    """The best validation of a run so far."""

    psnr_db: float | None = None
    """Held-out PSNR in dB; None before the first validation."""
    step: int = 0
    """Steps done then."""
    since: int = 0
    """Validations after it, none of them better."""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Record":
        """Return the record that a checkpoint or a report has, or that of a run without any."""
        return cls(facts.get(BEST_DB), facts.get(BEST_STEP, 0), facts.get(SINCE_BEST, 0))

    @property
    def facts(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return {BEST_DB: self.psnr_db, BEST_STEP: self.step, SINCE_BEST: self.since}

    def after(self, step: int, psnr_db: float) -> "Record":
        """Return the record after one more validation; one that is no better leaves it."""
        if self.psnr_db is None or psnr_db > self.psnr_db:
            return Record(psnr_db, step)
        return Record(self.psnr_db, self.step, self.since + 1)

    def exhausts(self, patience: int | None) -> bool:
        """Return whether a run of that patience ends here."""
        return patience is not None and self.since >= patience
