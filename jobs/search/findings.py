"""What a search found: the best job, what each parameter is worth, what it cost."""

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState, create_trial

from jobs.config import TrainJob
from jobs.errors import JobError
from jobs.search import proposals
from jobs.search.journal import Record
from jobs.search.objectives import SENSE, Objective
from jobs.search.spaces import Space, Values

LEAST = 6
"""Trials without which nothing is said of the importance of parameters."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A search as far as it is."""

    name: str
    recipe: TrainJob
    """What was to be improved, with all its steps."""
    space: Space
    objectives: tuple[Objective, ...]
    last_step: int
    """Steps of a trial that nothing ended."""
    trials: int
    """Trials that there are to be."""
    records: tuple[Record, ...]
    """By number."""

    @property
    def over(self) -> tuple[Record, ...]:
        """Return the trials that came to an end."""
        return tuple(record for record in self.records if record.status != "running")

    @property
    def finished(self) -> tuple[Record, ...]:
        """Return the trials that did all steps."""
        return tuple(record for record in self.records if record.status == "finished")

    @property
    def winner(self) -> Record:
        """Return the finished trial with the highest PSNR. Raises JobError when there is none."""
        if not self.finished:
            errors = [record.error for record in self.records if record.error]
            reason = f"; trial {self.records[0].number}: {errors[0]}" if errors else ""
            raise JobError(
                f"no trial of {self.name} did all {self.last_step} steps{reason}; "
                "run the same command again, or give it more --trials or --hours"
            )
        return max(self.finished, key=lambda record: record.psnr_db or 0.0)

    @property
    def best(self) -> TrainJob:
        """Return the recipe with the best values, under a name of its own."""
        job = self.space.apply(self.recipe, self.values(self.winner))
        return dataclasses.replace(job, name=f"{self.name}-best")

    def values(self, record: Record) -> Values:
        """Return the values at the end of a trial; those of the recipe where it changed nothing."""
        return record.last_values or self.space.of(self.recipe) or {}

    @property
    def front(self) -> tuple[Record, ...]:
        """Return the finished trials that no other one equals or beats in all objectives."""
        return tuple(
            record
            for record in self.finished
            if not any(self._beats(other, record) for other in self.finished)
        )

    def _beats(self, other: Record, record: Record) -> bool:
        """Return whether `other` is worse in nothing and better in something."""
        pairs = [
            (sign(name) * other.objectives[name], sign(name) * record.objectives[name])
            for name in self.objectives
        ]
        return all(theirs >= own for theirs, own in pairs) and any(t > o for t, o in pairs)

    @property
    def steps(self) -> int:
        """Return the steps of all trials."""
        return sum(record.steps for record in self.records)

    @property
    def step_fraction(self) -> float:
        """Return the steps over those of as many trials that nothing ends."""
        return self.steps / max(1, len(self.over) * self.last_step)

    @property
    def device_hours(self) -> float:
        """Return the hours of all devices in training and validation."""
        return sum(record.device_s for record in self.records) / 3600

    def importance(self) -> dict[str, float]:
        """Return what part each parameter has in whether a trial is among the better quarter.

        PED-ANOVA (Watanabe et al., 2023) over the PSNR at the first validation, which all trials
        have: later ones were reached by a choice. A parameter that takes part in some trials alone
        is judged by those. Empty below a few trials.
        """
        study = optuna.create_study(direction="maximize")
        for record in self.over:
            values = self.values(record)
            if not record.points or not values:
                continue
            told = proposals.frozen(self.space, dataclasses.replace(record, changes=()), ("psnr",))
            study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE,
                    params=told.params,
                    distributions=told.distributions,
                    value=record.points[0][1],
                )
            )
        if len(study.trials) < LEAST:
            return {}
        evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (RuntimeError, ValueError):
            return {}  # all trials have the same score, or no parameter in common
        return {name: float(part) for name, part in found.items()}

    def summary(self) -> dict[str, Any]:
        """Return what `result.json` says."""
        winner = self.winner
        return {
            "best": {
                "trial": winner.number,
                "psnr_db": winner.psnr_db,
                "values": self.values(winner),
                "objectives": winner.objectives,
            },
            "front": [
                {"trial": r.number, "objectives": r.objectives, "values": self.values(r)}
                for r in self.front
            ],
            "objectives": self.objectives,
            "importance": self.importance(),
            "trials": {
                status: sum(record.status == status for record in self.records)
                for status in ("finished", "stopped", "failed", "running")
            },
            "steps": self.steps,
            "step_fraction": self.step_fraction,
            "device_hours": self.device_hours,
        }


def sign(objective: Objective) -> int:
    """Return 1 where more is better, -1 where less is."""
    return 1 if SENSE[objective] == "maximize" else -1
