"""laformer train: a recipe in, a registered candidate out. The same command again resumes."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["train", *sys.argv[1:]]))

import dataclasses
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import ray
from ray.train import ControllerError, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from jobs import environment, place, recipes
from jobs.cluster import Cluster, connected
from jobs.config import TrainJob
from jobs.console import say, working
from jobs.errors import UnavailableError
from jobs.revision import git_revision
from jobs.tracking import Tracker
from jobs.training import elastic, initial
from jobs.training.elastic import DividingPolicy, ElasticTrainer
from jobs.training.held_out import validation
from jobs.training.inputs import check_model, manifest_uris, samples
from jobs.training.notices import Notices, printed
from jobs.training.progress import BoardObserver, board, shown
from jobs.training.recording import MlflowObserver
from jobs.training.release import Trained, finished, record_early, release, tell_replaced
from jobs.training.restarts import Restarts
from jobs.training.runs import flatten, run_name, same_run, shelf_of
from jobs.training.stopping import stoppable
from laformer.assignment import WorkerJob
from laformer.listening import STOP
from laformer.worker import train_worker
from pipelines import storage, tasks
from pipelines.stages import StagedStream


def run(job: TrainJob) -> Trained:
    """Train to the end and register the best checkpoint, as the candidate if it is to be."""
    uris = manifest_uris(job)
    task = tasks.find(job.task)
    check_model(job, task)
    stream = samples(job, uris, task)
    name = run_name(job)
    origin = initial.origin(job, name, begun=bool(shelf_of(job).complete()))
    if origin is not None:
        job = dataclasses.replace(job, init=origin.model)
    same_run(name, recipes.to_json(job), stream.fingerprint(), origin)
    tracker = Tracker()
    params = flatten(asdict(job)) | {"manifest_sha256": stream.digest}
    params |= {"git_revision": git_revision()} | flatten(stream.fingerprint(), "samples.")
    with working(f"opening the run {name} in MLflow at {place.without_secret(tracker.uri)}"):
        run_id = tracker.continue_run(f"laformer-{job.task}", place.run_folder(name), params)
        tracker.trained_on(run_id, dict(zip(uris, stream.digest.split("+"), strict=True)))
        tracker.describe(run_id, environment.versions() | {environment.COMMIT: git_revision()})
    observer = MlflowObserver(tracker.uri, run_id, place.run_folder(name), say)
    observer.catch_up()
    facts = {
        "task": job.task,
        "recipe": json.loads(recipes.to_json(job)),
        "samples": stream.fingerprint(),
        "run_id": run_id,
        "git_revision": git_revision(),
        "init": origin.facts if origin else None,
    }
    with tracker.ending(run_id):
        with connected() as cluster:
            cluster.require_shared(place.store(), *uris, tracker.uri)
            with suppress(UnavailableError):  # it was there a moment ago: the numbers wait for it
                tracker.describe(run_id, {environment.DEVICES: environment.devices()})
            fit(job, cluster, Start(stream, observer, facts, origin))
        trained = release(job, run_id)
        record_early(job, tracker, run_id)
        tell_replaced(tracker, run_id)
    say(f"registered {trained.version}{' as candidate' if job.candidate else ''}")
    return trained


@dataclass(frozen=True)
class Start:
    """What the workers of a run begin with, beside the job."""

    stream: StagedStream
    """The samples."""
    tracking: MlflowObserver
    """Where rank 0 records."""
    facts: dict[str, Any]
    """What every checkpoint says of itself."""
    origin: initial.Origin | None
    """The model whose weights come first."""
    held_out: dict[str, Any] | None = None
    """What `validation` returns, where it was made before."""
    notices: Notices | None = None
    """Where the workers are told to end, by somebody else than this process."""


def fit(job: TrainJob, cluster: Cluster, start: Start) -> None:
    """Run the workers until the last step is stored."""
    name, shelf = run_name(job), shelf_of(job)
    if (done := finished(job)) is not None:
        say(f"{name} has done its {done} steps before")
        return
    # Of a run that an earlier version began: Ray would insist on every checkpoint in its list.
    storage.delete(storage.join(shelf.uri, "checkpoint_manager_snapshot.json"))
    allowed = worker_counts(job, cluster)
    tell_limits(start.stream, cluster)
    progress, notices = board(), start.notices or Notices.create()
    origin = start.origin
    worker_job = WorkerJob(
        model=job.model,
        train=job.train,
        segment=start.stream.segment,
        **(start.held_out or validation(job)),
        observer=BoardObserver(dataclasses.replace(start.tracking, tell=notices.tell), progress),
        facts=start.facts,
        threads=cluster.threads(allowed[-1]),
        initial=ray.put(origin.files) if origin and origin.files else None,
        shelf=shelf,
        notices=notices,
        hang_s=job.hang_s,
    )
    trainer = ElasticTrainer(
        train_worker,
        policy=partial(
            DividingPolicy,
            allowed=allowed,
            stored=shelf.complete,
            want=notices.want,
            explain=notices.hold,
        ),
        train_loop_config={"job": worker_job},
        scaling_config=ScalingConfig(
            num_workers=allowed[0] if len(allowed) == 1 else (allowed[0], allowed[-1]),
            use_gpu=cluster.num_gpus > 0,
            elastic_resize_monitor_interval_s=elastic.RESIZE_S,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage.join(place.store(), "train"),
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[Restarts(notices)],
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    device = "GPU" if cluster.num_gpus else "CPU"
    counts = " or ".join(map(str, allowed))
    say(f"training {name}: {job.train.steps} steps on {counts} {device} workers")
    with shown(progress, name, job.train.steps), printed(notices):
        wait_for(trainer, partial(notices.want, STOP))


def tell_limits(stream: StagedStream, cluster: Cluster) -> None:
    """Say which photos are left out, and whether the windows of samples fit into memory."""
    for note in stream.left_out():
        say(f"note: {note}")
    if (wanted := 3 * stream.window_bytes) > cluster.store_bytes:
        say(
            f"note: the object store has {cluster.store_bytes >> 20} MB but the windows of samples "
            f"want {wanted >> 20} MB, so they will be spilled to disk; lower "
            "--data.visits-per-window or --data.crops-per-visit, or give Ray a larger store"
        )


def worker_counts(job: TrainJob, cluster: Cluster) -> tuple[int, ...]:
    """Return how many workers there may be: one number, or several when they come and go."""
    accumulate = job.train.accumulate
    batches = [stage.global_batch for stage in job.train.all_stages]
    if isinstance(job.workers, tuple):
        least, most = job.workers
        if cluster.is_local and not cluster.num_gpus:
            most = min(most, cluster.num_cpus)
        return elastic.sizes(least, most, math.gcd(*batches) // accumulate)
    num = cluster.num_workers(job.workers, *batches, accumulate=accumulate)
    if job.workers is None and num < cluster.num_gpus:
        say(
            f"note: {num} of {cluster.num_gpus} GPUs are used, for more do not divide the batches "
            f"{sorted(set(batches))} in {accumulate} parts; use other batches or --train.accumulate"
        )
    return (num,)


def wait_for(trainer: TorchTrainer, ask: Callable[[], None]) -> None:
    """Wait for the workers, and `ask` them to end on a signal.

    Raises what ended them, or KeyboardInterrupt for a signal.
    """
    try:
        with stoppable(ask):
            trainer.fit()
    except ControllerError as error:
        raise error.controller_failure from error
