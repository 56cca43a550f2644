"""Trials that are training runs of their own: Ray Train inside Ray Tune, any number of workers.

A trial drives its run from a thread and tells Tune each validation. What Tune keeps as a checkpoint
is a pointer: which run, which step. Whoever goes on from it begins a run of its own with a copy of
that step on its shelf, and continues it as any run continues.
"""

import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from jobs import failures, place, recipes, train
from jobs.checkpoints import SCORE, StoredShelf
from jobs.cluster import Cluster
from jobs.config import TrainJob
from jobs.revision import git_revision
from jobs.search.plan import Plan, experiment, trial_name
from jobs.search.trials import UNFIT, measured
from jobs.tracking import Tracker
from jobs.training import inputs
from jobs.training.notices import Notices
from jobs.training.recording import MlflowObserver, RunRecorder
from jobs.training.runs import flatten, run_name, shelf_of
from jobs.training.watching import here
from laformer import checkpoint
from laformer.errors import TrainingError
from laformer.listening import STOP
from laformer.model import LAformer
from pipelines import tasks

POLL_S = 0.5
POINTER = "pointer.json"
END_S = 60.0
"""Longest wait for workers that are to end: they ask what is wanted every few seconds, and save."""


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """What all trials of a search have in common."""

    plan: Plan
    cluster: Cluster
    parent: str
    """Its run in MLflow."""
    held_out: dict[str, Any]
    """What is validated, and how: fields of WorkerJob."""
    place: dict[str, str]
    """Where runs and MLflow are: variables of the environment, which a trial does not inherit."""


class Scores:
    """An actor that holds the validations of a run until its driver asks."""

    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []

    def add(self, step: int, psnr_db: float) -> None:
        """Keep one."""
        self.found.append((step, psnr_db))

    def take(self) -> list[tuple[int, float]]:
        """Return those that were not taken before."""
        taken, self.found = self.found, []
        return taken


@dataclass(frozen=True)
class ScoreObserver(MlflowObserver):
    """Makes an observer that tells MLflow everything and the driver of the trial the scores."""

    scores: Any = None
    """The actor that holds them."""

    def __call__(self) -> "ScoreRecorder":
        """Connect, inside the worker."""
        return ScoreRecorder(self)


class ScoreRecorder(RunRecorder):
    """Tells both."""

    def __init__(self, settings: ScoreObserver) -> None:
        super().__init__(settings)
        self.scores = settings.scores

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record numbers of a step."""
        super().log(step, metrics)
        if SCORE in metrics:
            self.scores.add.remote(step, metrics[SCORE])


class RunTrial(tune.Trainable):  # type: ignore[misc]
    """Serves one trial to Ray Tune: its run goes on beside, and each step waits for a validation.

    A trial that is ended ends its run in order. Workers that are killed may leave their CPUs taken
    for ever: what Ray has to free them asks the latest cluster of the machine, be it another.
    """

    def setup(self, config: dict[str, Any], shared: SharedRun) -> None:
        """Take the values; the run begins with the first step, where it may go on from another."""
        os.environ.update(shared.place)
        self.shared = shared
        self.number, self.values = int(config["number"]), dict(config["values"])
        self.since, self.seconds = time.time(), 0.0
        self.pointer: dict[str, Any] | None = None
        self.resumed, self.last = 0, 0
        self.under_way: UnderWay | None = None

    def step(self) -> dict[str, Any]:
        """Return the next validation, or why there is none."""
        try:
            found = self._validation()
        except Exception as error:
            known = failures.cause(error) or error
            if not isinstance(known, UNFIT):
                raise
            found = {"failed": str(known), "step": 0}
        began, self.since = self.since, time.time()
        self.seconds += self.since - began
        times = {"seconds": self.seconds, "began": began, "ended": self.since}
        told = {"values": list(self.values.items()), "resumed": self.resumed}
        return found | times | told

    def _validation(self) -> dict[str, Any]:
        if self.under_way is None:
            self.under_way = UnderWay(self._job(), self.shared)
        job = self.under_way.job
        step, psnr_db = self.under_way.next_after(self.last)
        self.last = step
        found: dict[str, Any] = {"step": step, "psnr_db": psnr_db}
        if step == job.train.steps:
            asked = measured(LAformer(job.model), psnr_db, self.shared.plan.job.objectives)
            found["objectives"] = list(asked.items())
        return found

    def _job(self) -> TrainJob:
        """Return what is trained; what it goes on from is on its shelf then."""
        plan = self.shared.plan
        job = plan.space.apply(plan.base, self.values)
        job = replace(job, name=trial_name(plan, self.number))
        if self.pointer is not None:
            # A name of its own: Ray Train would find the earlier run of the same name.
            job = replace(job, name=f"{plan.name}-{self.trial_id}-{time.time_ns()}")
            self.resumed = continued(job, self.pointer["run"], self.pointer["step"])
        inputs.check_model(job, tasks.find(job.task))
        return job

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Leave a pointer for others that go on from here."""
        if self.under_way is not None:
            pointer = {"run": run_name(self.under_way.job), "step": self.last}
            (Path(checkpoint_dir) / POINTER).write_text(json.dumps(pointer))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from what a pointer names."""
        self.pointer = json.loads((Path(checkpoint_dir) / POINTER).read_text())

    def cleanup(self) -> None:
        """End the run."""
        if self.under_way is not None:
            self.under_way.end()


class UnderWay:
    """A run in a thread of this process."""

    def __init__(self, job: TrainJob, shared: SharedRun) -> None:
        self.job, self.shared = job, shared
        self.scores, self.notices = here(Scores).remote(), Notices.create()
        self.waiting: list[tuple[int, float]] = []
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self._fit, name="training", daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        try:
            begun = start(self.job, self.shared, self.scores, self.notices)
            train.fit(self.job, self.shared.cluster, begun)
        except BaseException as error:  # noqa: BLE001 - raised again where it is asked
            self.failed = error

    def next_after(self, step: int) -> tuple[int, float]:
        """Wait for the next validation; return its step and PSNR in dB.

        Raises what ended the run, or TrainingError when it ended without one.
        """
        while not self.waiting:
            ended = not self.thread.is_alive()
            self.waiting = ray.get(self.scores.take.remote())
            if ended and not self.waiting:
                self.waiting = [self._at_the_end(step)]
            elif not self.waiting:
                self.thread.join(POLL_S)
        return self.waiting.pop(0)

    def _at_the_end(self, step: int) -> tuple[int, float]:
        if self.failed:
            raise self.failed
        steps, shelf = self.job.train.steps, shelf_of(self.job)
        if step < steps and steps in shelf.complete():
            # It had come to its end before, and only the search did not know.
            return steps, float(shelf.facts(steps)[SCORE])
        raise TrainingError(f"the run ended after {step} of its {steps} steps")

    def end(self) -> None:
        """Ask the workers to save and end, and wait for that."""
        if self.thread.is_alive():
            self.notices.want(STOP)
            self.thread.join(END_S)


def start(job: TrainJob, shared: SharedRun, scores: Any, notices: Notices) -> train.Start:
    """Return what the workers of a trial begin with, its run in MLflow among it."""
    stream = inputs.samples(job, inputs.manifest_uris(job), tasks.find(job.task))
    tracker = Tracker()
    facts = {"manifest_sha256": stream.digest, "git_revision": git_revision()}
    folder = place.run_folder(run_name(job))
    params = flatten(asdict(job)) | facts
    run_id = tracker.continue_run(experiment(shared.plan), folder, params, parent=shared.parent)
    observer = ScoreObserver(tracker.uri, run_id, folder, scores=scores)
    recipe = json.loads(recipes.to_json(job))
    kept = {"task": job.task, "recipe": recipe, "samples": stream.fingerprint(), "init": None}
    kept |= {"run_id": run_id, "git_revision": facts["git_revision"]}
    return train.Start(stream, observer, kept, None, shared.held_out, notices)


def continued(job: TrainJob, run: str, step: int) -> int:
    """Put a step of another run on the shelf of this one; return it.

    Where that step is not stored (yet) it is the newest one before it.
    """
    donor = StoredShelf(place.run_folder(run))
    steps = [each for each in donor.complete() if each <= step]
    if not steps:
        return 0
    with donor.opened(steps[0]) as folder:
        files = sorted(Path(folder).iterdir(), key=lambda path: path.name == checkpoint.SUMS)
        shelf_of(job).store(steps[0], ((path.name, path.read_bytes()) for path in files))
    return steps[0]
