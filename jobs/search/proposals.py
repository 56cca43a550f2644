"""What a search tries next: drawn at random, all combinations, or what Optuna makes of the past."""

import random
import warnings
from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from jobs.errors import JobError
from jobs.search.distributions import Choice, Distribution, Real, Whole
from jobs.search.journal import Record
from jobs.search.objectives import SENSE, Objective
from jobs.search.spaces import Space, Values

STARTUP = 5
"""Trials that are drawn at random before Optuna makes something of them."""


class Proposer(Protocol):
    """Chooses the values of trials."""

    def propose(self, number: int) -> Values | None:
        """Return the values of a trial, or None when there is nothing left to try."""

    def learn(self, record: Record) -> None:
        """Take note of a trial that is over."""


class AtRandom:
    """Every trial by itself: a function of the seed and the number of the trial."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def propose(self, number: int) -> Values:
        """Draw the values of a trial."""
        return self.space.at_random(random.Random(f"{self.seed} {number}"))  # noqa: S311 - no secret

    def learn(self, _record: Record) -> None:
        """Learn nothing."""


class Grid:
    """All combinations, in the order of the entries."""

    def __init__(self, space: Space, points: int, trials: int) -> None:
        self.all = list(islice(space.grid(points), trials))
        if len(self.all) == trials:  # the recipe is the first of the trials
            raise JobError(
                f"the grid has {trials} combinations or more, which with the recipe are more than "
                f"--trials {trials}; allow more, take fewer entries with --over (there are "
                f"{', '.join(space.names)}), or lower --grid-points"
            )

    def propose(self, number: int) -> Values | None:
        """Return a combination; the first trial is the recipe."""
        return self.all[number - 1] if number <= len(self.all) else None

    def learn(self, _record: Record) -> None:
        """Learn nothing."""


class Optuna:
    """A tree-structured Parzen estimator over what is known of all trials that are over.

    A trial that was stopped counts with what it had reached, after all that went further.
    """

    def __init__(self, space: Space, seed: int, objectives: Sequence[Objective]) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.study = study(self.objectives)
        self.seed = seed
        self.asked: dict[int, optuna.Trial] = {}

    def propose(self, number: int) -> Values:
        """Ask for values, entry by entry: an entry whose condition does not hold is not asked."""
        # Seeded by the trial: a search that is resumed would begin its seed's numbers again.
        self.study.sampler = sampler(random.Random(f"{self.seed} {number}").getrandbits(32))  # noqa: S311 - no secret
        asked = self.asked[number] = self.study.ask()
        return self.space.draw(lambda name, distribution: suggested(asked, name, distribution))

    def learn(self, record: Record) -> None:
        """Tell how a trial ended."""
        asked = self.asked.pop(record.number, None)
        if asked is not None:
            self.study.tell(asked, state=TrialState.FAIL)
        values = record.last_values
        if not values or record.status == "failed" or not record.points:
            return
        try:
            told = frozen(self.space, record, self.objectives)
        except ValueError:
            return  # a point outside the space, as the recipe may be
        self.study.add_trial(told)


def study(objectives: Sequence[Objective]) -> optuna.Study:
    """Return an empty study in memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=[SENSE[name] for name in objectives], sampler=sampler(0))


def sampler(seed: int) -> optuna.samplers.TPESampler:
    """Return what chooses: at random for a few trials, then by the better ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of it call themselves experimental
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True
        )


def suggested(trial: optuna.Trial, name: str, distribution: Distribution) -> Any:
    """Return what Optuna suggests for one entry."""
    if isinstance(distribution, Choice):
        label = trial.suggest_categorical(name, distribution.labels)
        return distribution.options[distribution.labels.index(label)]
    if isinstance(distribution, Whole):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def in_optuna(distribution: Distribution) -> BaseDistribution:
    """Return a distribution as Optuna names it."""
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.labels)
    kind = FloatDistribution if isinstance(distribution, Real) else IntDistribution
    return kind(distribution.low, distribution.high, log=distribution.log)  # type: ignore[arg-type]


def frozen(space: Space, record: Record, objectives: Sequence[Objective]) -> FrozenTrial:
    """Return a trial that is over as Optuna keeps it. Raises ValueError outside the space."""
    values = space.parse(record.last_values)
    params = {
        name: str(value) if isinstance(space[name].distribution, Choice) else value
        for name, value in values.items()
    }
    distributions = {name: in_optuna(space[name].distribution) for name in params}
    if len(objectives) > 1:
        return create_trial(
            state=TrialState.COMPLETE,
            params=params,
            distributions=distributions,
            values=[record.objectives[name] for name in objectives],
        )
    return create_trial(
        state=TrialState.COMPLETE if record.status == "finished" else TrialState.PRUNED,
        params=params,
        distributions=distributions,
        value=record.psnr_db,
        intermediate_values=dict(record.points),
    )
