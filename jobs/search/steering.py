"""Ray Tune's interfaces to a search: it asks for trials, tells results, and is told who goes on."""

import os
import random
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from jobs import failures
from jobs.search.search import Search

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal keeps what they would write
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a search at once; results are kept
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no score
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def quiet() -> None:
    """Keep Tune from writing and printing what this project says itself."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


class Asking(Searcher):  # type: ignore[misc]
    """Gives trials to Tune, at most so many at a time."""

    def __init__(self, search: Search, concurrent: int) -> None:
        super().__init__(metric="psnr_db", mode="max")
        self.search, self.concurrent = search, concurrent
        self.under_way: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial; none while all places are taken."""
        if len(self.under_way) >= self.concurrent:
            return None
        record = self.search.next()
        if record is None:
            return str(Searcher.FINISHED)
        self.under_way.add(trial_id)
        self.search.numbers[trial_id] = record.number
        return {"number": record.number, "values": record.values}

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,  # noqa: ARG002 - Tune's interface
        error: bool = False,  # noqa: ARG002 - Tune's interface
    ) -> None:
        """Take note that a place is free."""
        self.under_way.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""


class Telling(tune.Callback):  # type: ignore[misc]
    """Tells a search which of its trials could not be run."""

    def __init__(self, search: Search) -> None:
        self.search = search

    def on_trial_error(
        self,
        iteration: int,  # noqa: ARG002 - Tune's interface
        trials: list[Any],  # noqa: ARG002 - Tune's interface
        trial: Any,
        **_info: Any,
    ) -> None:
        """Keep why, as its process said it."""
        error = trial.get_pickled_error()
        known = failures.cause(error)
        self.search.failed(
            self.search.numbers[trial.trial_id], str(known or error or "the process was lost")
        )


class Deciding(FIFOScheduler):  # type: ignore[misc]
    """Ends the trials that the search does not let go on."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search

    def on_trial_result(
        self,
        tune_controller: Any,  # noqa: ARG002 - Tune's interface
        trial: Any,
        result: dict[str, Any],
    ) -> str:
        """Keep a result."""
        goes_on = self.search.result(self.search.numbers[trial.trial_id], result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class Population(PopulationBasedTraining):  # type: ignore[misc]
    """Lets the worse trials go on from checkpoints of the better ones, with values nearby.

    Source: Jaderberg et al., "Population Based Training of Neural Networks", 2017.
    """

    def __init__(self, search: Search, every: int, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311 - no secret

        def nearby(config: dict[str, Any]) -> dict[str, Any]:
            return config | {"values": search.space.near(config["values"], rng)}

        super().__init__(
            time_attr="step",
            metric="psnr_db",
            mode="max",
            perturbation_interval=every,
            custom_explore_fn=nearby,
            log_config=False,
        )
        self.search = search

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give a member its values: Tune knows its number alone, and lets no searcher choose."""
        number = trial.config["number"]
        self.search.numbers[trial.trial_id] = number
        trial.config["values"] = self.search.records[number].values
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Keep a result; the trial may go on from another one."""
        number = self.search.numbers[trial.trial_id]
        # Tune has copied the configuration of the donor, its number included.
        donor, trial.config["number"] = trial.config["number"], number
        if not self.search.result(number, result | {"donor": donor}):
            return str(TrialScheduler.STOP)
        return str(super().on_trial_result(tune_controller, trial, result))
