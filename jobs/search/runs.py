"""A search in MLflow: one run for it, and below that one for each trial that is over.

A trial is recorded when it is over, from what the journal keeps of it: a server that is away for a
while, or a search that is killed, costs no number and doubles none.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.console import say
from jobs.errors import JobError
from jobs.search.findings import Findings
from jobs.search.journal import Journal, Record
from jobs.search.spaces import Values
from jobs.tracking import Tracker

SCORE = "val_psnr_db"
AGAIN_S = 120.0
"""Pause after a server did not answer: waiting for it again and again would hold up trials."""
RECORDED_FILE = "mlflow.json"
"""Beside the trials: the run of the search, which trials are recorded, and how many there were when
what came of them was."""


@dataclass
class SearchRuns:
    """The runs of one search."""

    tracker: Tracker
    journal: Journal
    experiment: str
    params: Callable[[Values], dict[str, str]]
    """Values of a trial to all that a run of it has, flattened."""
    folder: Callable[[int], str]
    """Number of a trial to the folder by which its run is found again."""
    parent: str = ""
    recorded: set[int] = field(default_factory=set)
    away_until: float = 0.0
    """Monotonic time before which a server that did not answer is not asked again."""

    def open(self) -> None:
        """Begin or continue the run of the search. Raises JobError when MLflow does not answer."""
        self.recorded = recorded(self.journal)
        self.parent = self.tracker.continue_run(
            self.experiment, self.journal.folder, self.params({}) | {"kind": "search"}
        )

    def keep(self, record: Record, values: Values) -> None:
        """Record a trial that is over, once; one that cannot be recorded now is left for later."""
        if record.number in self.recorded or time.monotonic() < self.away_until:
            return
        try:
            self._record(record, values)
        except JobError as error:
            say(f"warning: {error}; what it lacks is recorded later, the search goes on")
            self.away_until = time.monotonic() + AGAIN_S
            return
        self.recorded.add(record.number)
        self._remember()

    def _record(self, record: Record, values: Values) -> None:
        tracker = self.tracker
        params = self.params(values) | {"trial": str(record.number), "end": record.status}
        folder = self.folder(record.number)
        run_id = tracker.continue_run(self.experiment, folder, params, parent=self.parent)
        known = {step for step, _ in tracker.history(run_id, SCORE)}
        for step, psnr_db in record.points:
            if step not in known:
                tracker.metrics(run_id, {SCORE: psnr_db}, step)
        if not tracker.history(run_id, "device_seconds"):
            asked = {f"objective.{name}": value for name, value in record.objectives.items()}
            tracker.metrics(run_id, asked | {"device_seconds": record.device_s}, record.steps)
        tracker.finish_run(run_id, failed=record.status == "failed")

    def close(self, found: Findings, files: dict[str, bytes], *, failed: bool) -> None:
        """Record what came of the search, after the trials that could not be recorded before.

        `files`, by name, are kept with its run: a later call replaces them.
        """
        self.away_until = 0.0
        for record in found.over:
            self.keep(record, found.values(record))
        if self.away_until:
            return
        try:
            if found.finished:
                self._conclude(found, files)
        except JobError as error:
            say(f"warning: {error}; the same command again records what came of the search")
            return
        self._remember(concluded=0 if failed else len(found.over))
        self.tracker.finish_run(self.parent, failed=failed)

    def _conclude(self, found: Findings, files: dict[str, bytes]) -> None:
        winner = found.winner
        numbers = {
            "best_val_psnr_db": winner.psnr_db or 0.0,
            "best_trial": float(winner.number),
            "device_hours": found.device_hours,
            "step_fraction": found.step_fraction,
        }
        self.tracker.metrics(self.parent, numbers, len(found.over))
        with tempfile.TemporaryDirectory() as scratch:
            for name, data in files.items():
                path = Path(scratch) / name
                path.write_bytes(data)
                self.tracker.file(self.parent, path)

    def _remember(self, concluded: int = 0) -> None:
        known = {"run": self.parent, "trials": sorted(self.recorded), "concluded": concluded}
        self.journal.write(RECORDED_FILE, known)


def recorded(journal: Journal) -> set[int]:
    """Return the numbers of the trials that MLflow has."""
    return set(_remembered(journal).get("trials", ()))


def is_concluded(journal: Journal, num_trials: int) -> bool:
    """Return whether MLflow has so many trials, and what came of them."""
    return bool(_remembered(journal).get("concluded") == num_trials)


def _remembered(journal: Journal) -> dict[str, Any]:
    return journal.read(RECORDED_FILE) or {}
