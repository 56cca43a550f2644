"""Trials that are training runs of their own: Ray Train inside Ray Tune, any number of workers.

A trial drives its run from a thread and tells Tune each validation. What Tune keeps as a checkpoint
is a pointer: which run, which step. Whoever goes on from it begins a run of its own with a copy of
that step on its shelf, and continues it as any run continues.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from jobs import failures, place, recipes, train
from jobs.checkpoints import SCORE, StoredShelf
from jobs.cluster import Cluster
from jobs.config import TrainJob
from jobs.connection import reachable
from jobs.revision import git_revision
from jobs.search.objectives import Objective
from jobs.search.runs import PARENT_TAG
from jobs.search.spaces import Space
from jobs.search.trials import UNFIT, measured
from jobs.tracking import Tracker
from jobs.training import inputs
from jobs.training.recording import MlflowObserver, RunRecorder
from jobs.training.runs import flatten, run_name, shelf_of
from jobs.training.watching import here
from laformer import checkpoint
from laformer.model import LAformer
from pipelines import tasks

POLL_S = 0.5
POINTER = "pointer.json"


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """What all trials of a search have in common."""

    search: str
    """Its name."""
    base: TrainJob
    space: Space
    objectives: tuple[Objective, ...]
    cluster: Cluster
    parent: str
    """Its run in MLflow."""
    experiment: str
    population: bool
    """Whether trials go on from each other."""
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


def folder_of(search: str, number: int) -> str:
    """Return where the checkpoints of a trial are."""
    return place.run_folder(trial_name(search, number))


def trial_name(search: str, number: int) -> str:
    """Return the name of the training run of a trial."""
    return f"{search}-trial-{number:05d}"


def run_trial(config: dict[str, Any], shared: SharedRun) -> None:
    """Run a trial and report to Tune."""
    os.environ.update(shared.place)
    began, told = time.time(), {"values": list(config["values"].items()), "resumed": 0}
    try:
        for result in results(config, shared, told):
            ended = time.time()
            times = {"seconds": ended - began, "began": began, "ended": ended}
            report(told | times | result, shared)
    except Exception as error:
        known = failures.cause(error) or error
        if not isinstance(known, UNFIT):
            raise
        ended = time.time()
        times = {"seconds": ended - began, "began": began, "ended": ended}
        tune.report(told | times | {"failed": str(known), "step": 0})


def results(
    config: dict[str, Any], shared: SharedRun, told: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Train and yield each validation."""
    job = shared.space.apply(shared.base, config["values"])
    job = replace(job, name=trial_name(shared.search, config["number"]))
    pointer = tune.get_checkpoint()
    if pointer is not None:
        # A name of its own: Ray Train would find the earlier run of the same name.
        own = f"{tune.get_context().get_trial_id()}-{time.time_ns()}"
        job = replace(job, name=f"{shared.search}-{own}")
        told["resumed"] = continued(job, pointer)
    inputs.check_model(job, tasks.find(job.task))
    scores = here(Scores).remote()
    last = 0
    for step, psnr_db in driven(job, shared, scores):
        last = step
        yield result(job, shared, step, psnr_db)
    shelf = shelf_of(job)
    if last < job.train.steps and job.train.steps in shelf.complete():
        # It had come to its end before, and only the search did not know.
        facts = shelf.facts(job.train.steps)
        yield result(job, shared, job.train.steps, float(facts[SCORE]))


def driven(job: TrainJob, shared: SharedRun, scores: Any) -> Iterator[tuple[int, float]]:
    """Run the workers from a thread and yield the validations as they come."""
    failed: list[BaseException] = []
    over = threading.Event()

    def fit() -> None:
        try:
            train.fit(job, shared.cluster, start(job, shared, scores))
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=fit, name="training", daemon=True).start()
    ended = False
    while not ended:
        ended = over.wait(POLL_S)
        yield from ray.get(scores.take.remote())
    if failed:
        raise failed[0]


def start(job: TrainJob, shared: SharedRun, scores: Any) -> train.Start:
    """Return what the workers of a trial begin with, its run in MLflow among it."""
    stream = inputs.samples(job, inputs.manifest_uris(job), tasks.find(job.task))
    tracker = Tracker()
    facts = {"manifest_sha256": stream.digest, "git_revision": git_revision()}
    folder = place.run_folder(run_name(job))
    run_id = tracker.continue_run(shared.experiment, folder, flatten(asdict(job)) | facts)
    with reachable(tracker.uri):
        tracker.client.set_tag(run_id, PARENT_TAG, shared.parent)
    observer = ScoreObserver(tracker.uri, run_id, folder, scores=scores)
    recipe = json.loads(recipes.to_json(job))
    kept = {"task": job.task, "recipe": recipe, "samples": stream.fingerprint(), "init": None}
    kept |= {"run_id": run_id, "git_revision": facts["git_revision"]}
    return train.Start(stream, observer, kept, None, shared.held_out)


def result(job: TrainJob, shared: SharedRun, step: int, psnr_db: float) -> dict[str, Any]:
    """Return what is told of a validation."""
    found: dict[str, Any] = {"step": step, "psnr_db": psnr_db, "run": run_name(job)}
    if step == job.train.steps:
        asked = measured(LAformer(job.model), psnr_db, shared.objectives)
        found["objectives"] = list(asked.items())
    return found


def report(told: dict[str, Any], shared: SharedRun) -> None:
    """Tell Tune, and leave it a pointer if others may go on from here."""
    if not shared.population:
        tune.report(told)
        return
    with tempfile.TemporaryDirectory() as scratch:
        pointer = {"run": told["run"], "step": told["step"]}
        (Path(scratch) / POINTER).write_text(json.dumps(pointer))
        tune.report(told, checkpoint=tune.Checkpoint.from_directory(scratch))


def continued(job: TrainJob, pointer: Any) -> int:
    """Put the step that a pointer names on the shelf of a run; return it.

    Where that step is not stored (yet) it is the newest one before it.
    """
    with pointer.as_directory() as folder:
        named = json.loads((Path(folder) / POINTER).read_text())
    donor = StoredShelf(place.run_folder(named["run"]))
    steps = [step for step in donor.complete() if step <= named["step"]]
    if not steps:
        return 0
    with donor.opened(steps[0]) as folder:
        files = sorted(Path(folder).iterdir(), key=lambda path: path.name == checkpoint.SUMS)
        shelf_of(job).store(steps[0], ((path.name, path.read_bytes()) for path in files))
    return steps[0]
