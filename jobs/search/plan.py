"""A search before it starts: what its trials train, what may change, what names it."""

import dataclasses
import math
from dataclasses import dataclass

from jobs import place
from jobs.config import TrainJob, TuneJob
from jobs.errors import JobError
from jobs.search import halving, proposals, spaces
from jobs.search.proposals import Proposer
from jobs.search.spaces import Space
from jobs.training import inputs
from jobs.training.runs import flatten, run_name
from pipelines import storage

OF_THIS_CALL = ("trials", "hours", "concurrent", "stall", "train_best", "report", "page")
"""Values of a search that may be others when it is continued."""
OF_ITS_RUNS = ("name", "candidate", "workers", "hang_s")
"""Values of its job that may be others."""


@dataclass(frozen=True)
class Plan:
    """A search before it starts."""

    job: TuneJob
    name: str
    base: TrainJob
    """What trials train: the recipe, shortened."""
    space: Space
    milestones: tuple[int, ...]

    @classmethod
    def of(cls, job: TuneJob) -> "Plan":
        """Return what a search does, or raise what speaks against it."""
        base = shortened(job.job, job.steps or job.job.train.steps)
        # Trials run in folders of their own, and may have another environment.
        base = dataclasses.replace(base, manifest=inputs.manifest_uris(base))
        space = spaces.find(job.space, base)
        if workers(job) > 1:
            # Runs validate where they save: at the first rung and at its multiples.
            every = halving.rungs(base.train.steps)[:1] or (1,)
            base = dataclasses.replace(
                base, train=dataclasses.replace(base.train, checkpoint_every=every[0])
            )
        staged = {"train.patch_px", "train.global_batch"} & set(space.names)
        if staged and base.train.stages:
            raise JobError(
                f"the space changes {', '.join(sorted(staged))}, but the recipe has stages of its "
                "own; leave them out with --train.stages alone, or use another space"
            )
        halves = job.ending == "asha"
        steps = base.train.steps
        return cls(
            job=job,
            name=run_name(job.job),
            base=base,
            space=space.only(job.over) if job.over else space,
            milestones=halving.milestones(steps, halving=halves)
            if job.ending != "pbt"
            else halving.eighths(steps),
        )

    @property
    def facts(self) -> dict[str, str]:
        """Return what must be equal for a search to continue."""
        job = {k: v for k, v in dataclasses.asdict(self.base).items() if k not in OF_ITS_RUNS}
        own = {
            name: str(value)
            for name, value in vars(self.job).items()
            if name not in (*OF_THIS_CALL, "job", "over", "scheduler", "steps")
        }
        return (
            {f"job.{key}": value for key, value in flatten(job).items()}
            | own
            | {"scheduler": self.job.ending}
            | {f"space.{entry.name}": str(entry) for entry in self.space.entries}
        )


def proposer(plan: Plan) -> Proposer:
    """Return how values are chosen."""
    job, seed = plan.job, plan.job.search_seed
    if job.search == "grid":
        return proposals.Grid(plan.space, job.grid_points, job.trials)
    if job.search == "random" or job.ending == "pbt":
        return proposals.AtRandom(plan.space, seed)
    return proposals.Optuna(plan.space, seed, job.objectives)


def workers(job: TuneJob) -> int:
    """Return the training workers of a trial."""
    given = job.job.workers
    return given if isinstance(given, int) else 1


def experiment(plan: Plan) -> str:
    """Return the experiment of the runs, that of the task."""
    return f"laformer-{plan.base.task}"


def trial_name(plan: Plan, number: int) -> str:
    """Return the name of a trial that is a training run."""
    return f"{plan.name}-trial-{number:05d}"


def trial_folder(plan: Plan, number: int) -> str:
    """Return the folder that a run of a trial in MLflow is found by."""
    if workers(plan.job) > 1:
        return place.run_folder(trial_name(plan, number))
    return storage.join(place.store(), "tune", plan.name, "trials", f"{number:05d}")


def shortened(job: TrainJob, steps: int) -> TrainJob:
    """Return a job of fewer or more steps, warm-up, flat part and stages in proportion."""
    options, part = job.train, steps / job.train.steps
    stages = tuple(
        dataclasses.replace(stage, first_step=max(1, round(stage.first_step * part)))
        for stage in options.stages
    )
    changed = dataclasses.replace(
        options,
        steps=steps,
        stages=stages,
        warmup_steps=math.floor(options.warmup_steps * part),
        flat_steps=math.floor(options.flat_steps * part),
    )
    return dataclasses.replace(job, train=changed)
