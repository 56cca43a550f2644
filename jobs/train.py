"""laformer train: a recipe in, a registered candidate out. The same command again resumes."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["train", *sys.argv[1:]]))

import dataclasses
import json
import math
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import ControllerError, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from jobs import elastic, environment, initial, place, recipes
from jobs.checkpoints import StoredShelf
from jobs.cluster import Cluster, connected
from jobs.config import TrainJob
from jobs.console import say, working
from jobs.elastic import ElasticTrainer
from jobs.errors import JobError, UnavailableError
from jobs.evaluate import Judge
from jobs.notices import Notices, printed
from jobs.progress import BoardObserver, board, shown
from jobs.recording import MlflowObserver
from jobs.registry import Registry, Version
from jobs.restarts import Restarts
from jobs.stopping import stoppable
from jobs.tracking import Tracker
from laformer import checkpoint
from laformer.errors import CheckpointError
from laformer.patience import Record
from laformer.worker import WorkerJob, train_worker
from pipelines import storage, tasks
from pipelines.stages import StagedStream
from pipelines.tasks import Task
from pipelines.validation import WholePhotos, validation_stream

JOB_FILE, SAMPLES_FILE = "job.json", "samples.json"
"""Beside the checkpoints of a run: what it trains, and on which samples."""
CHANGES_NOTHING = ("workers", "hang_s", "train.accumulate", "train.patience")
"""Values of a job that may be others when a run is resumed: steps depend on them by rounding."""


@dataclass(frozen=True)
class Trained:
    """What a training run left behind."""

    version: Version
    """What was registered."""
    run_id: str
    """The tracking run."""
    facts: dict[str, Any]
    """What the released checkpoint says of itself."""


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
    failed = True
    try:
        with connected() as cluster:
            cluster.require_shared(place.store(), *uris, tracker.uri)
            with suppress(UnavailableError):  # it was there a moment ago: the numbers wait for it
                tracker.describe(run_id, {environment.DEVICES: environment.devices()})
            fit(job, cluster, Start(stream, observer, facts, origin))
        trained = release(job, run_id)
        tell_replaced(tracker, run_id)
        failed = False
    finally:
        tracker.finish_run(run_id, failed=failed)
    say(f"registered {trained.version}{' as candidate' if job.candidate else ''}")
    return trained


def manifest_uris(job: TrainJob) -> tuple[str, ...]:
    """Return the manifests of a job."""
    return tuple(place.manifest_uri(each) for each in job.manifest or (None,))


def samples(job: TrainJob, uris: tuple[str, ...], task: Task) -> StagedStream:
    """Return the samples of every step of a job."""
    return StagedStream.create(
        uris,
        task=task,
        stages=job.train.all_stages,
        plan_options={
            "source_weights": job.weight or (1,) * len(uris),
            "seed": job.train.seed,
            "crops_per_visit": job.data.crops_per_visit,
            "visits_per_window": job.data.visits_per_window,
        },
    )


def check_model(job: TrainJob, task: Task) -> None:
    """Raise JobError when the network takes or gives other images than the task has."""
    facts = {
        "scale": task.pairs.scale,
        "in_channels": task.channels * task.views,
        "out_channels": task.channels,
    }
    for name, wanted in facts.items():
        if getattr(job.model, name) != wanted:
            raise JobError(
                f"model.{name} {getattr(job.model, name)} is not the {wanted} of {job.task}; "
                f"use --model.{name.replace('_', '-')} {wanted}"
            )


def run_name(job: TrainJob) -> str:
    """Return the name under which a run is found again."""
    return job.name or job.task


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


def shelf_of(job: TrainJob) -> StoredShelf:
    """Return the checkpoints of a run."""
    return StoredShelf(place.run_folder(run_name(job)))


def fit(job: TrainJob, cluster: Cluster, start: Start) -> None:
    """Run the workers until the last step is stored."""
    stream, origin, shelf = start.stream, start.origin, shelf_of(job)
    if (done := finished(job)) is not None:
        say(f"{run_name(job)} has done its {done} steps before")
        tell_early(job)
        return
    # Of a run that an earlier version began: Ray would insist on every checkpoint in its list.
    storage.delete(storage.join(shelf.uri, "checkpoint_manager_snapshot.json"))
    allowed = worker_counts(job, cluster)
    for note in stream.left_out():
        say(f"note: {note}")
    if (wanted := 3 * stream.window_bytes) > cluster.store_bytes:
        say(
            f"note: the object store has {cluster.store_bytes >> 20} MB but the windows of samples "
            f"want {wanted >> 20} MB, so they will be spilled to disk; lower "
            "--data.visits-per-window or --data.crops-per-visit, or give Ray a larger store"
        )
    progress, notices = board(), Notices.create()
    worker_job = WorkerJob(
        model=job.model,
        train=job.train,
        segment=stream.segment,
        **validation(job),
        observer=BoardObserver(dataclasses.replace(start.tracking, tell=notices.tell), progress),
        facts=start.facts,
        threads=cluster.threads(allowed[-1]),
        initial=ray.put(origin.files) if origin and origin.files else None,
        shelf=shelf,
        notices=notices,
        hang_s=job.hang_s,
    )
    name = run_name(job)
    num_workers = allowed[0] if len(allowed) == 1 else (allowed[0], allowed[-1])
    trainer = ElasticTrainer(
        train_worker,
        allowed=allowed,
        train_loop_config={"job": worker_job},
        scaling_config=ScalingConfig(
            num_workers=num_workers,
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
    with shown(progress, "training", job.train.steps), printed(notices):
        wait_for(trainer)
    tell_early(job)


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


def wait_for(trainer: TorchTrainer) -> None:
    """Wait for the workers. Raises what ended them, or KeyboardInterrupt for a signal to end."""
    try:
        with stoppable():
            trainer.fit()
    except ControllerError as error:
        raise error.controller_failure from error


def validation(job: TrainJob) -> dict[str, Any]:
    """Return what is validated, and how, as fields of WorkerJob: crops, or whole photos."""
    task, uris = tasks.find(job.task), manifest_uris(job)
    if job.data.validation_px:
        with working("degrading the held-out photos"):
            crops = validation_stream(uris, task=task, config=job.data).take_all()
        return {"validation": ray.put(crops)}
    whole = ray.put(WholePhotos.of(uris, task=task, config=job.data))
    protocol = task.gate.protocol
    return {"validation": whole, "judge": Judge(protocol), "protocol": protocol.name}


def finished(job: TrainJob) -> int | None:
    """Return the last step of an earlier call that reached it, or its patience's end."""
    shelf = shelf_of(job)
    for step in shelf.complete()[:1]:
        if step == job.train.steps or ended_early(job, step, Record.of(shelf.facts(step))):
            return step
    return None


def ended_early(job: TrainJob, step: int, record: Record) -> bool:
    """Return whether the run ended with this checkpoint for lack of anything better."""
    return step < job.train.steps and record.exhausts(job.train.patience)


def tell_early(job: TrainJob) -> None:
    """Say it when a run ended before its last step."""
    shelf = shelf_of(job)
    for step in shelf.complete()[:1]:
        record = Record.of(shelf.facts(step))
        if ended_early(job, step, record):
            say(
                f"stopped at step {step} of {job.train.steps}: no held-out PSNR above the "
                f"{record.psnr_db:.2f} dB of step {record.step} in {record.since} validations"
            )


def best(shelf: StoredShelf, scratch: Path) -> Path:
    """Return a folder with the good checkpoint of the highest held-out PSNR."""
    for step in shelf.best_first():
        with shelf.opened(step) as folder:
            try:
                checkpoint.release(folder, scratch / f"step_{step}")
            except CheckpointError as error:
                say(f"warning: the checkpoint of step {step} is not registered: {error}")
            else:
                return scratch / f"step_{step}"
    raise JobError(f"the run at {shelf.uri} has no good checkpoint; delete it and train again")


def release(job: TrainJob, run_id: str) -> Trained:
    """Verify the best checkpoint, strip it to what restoring needs and register it."""
    with tempfile.TemporaryDirectory() as scratch, working("registering the best checkpoint"):
        released = best(shelf_of(job), Path(scratch))
        facts = checkpoint.read_facts(released)
        sums = json.loads((released / checkpoint.SUMS).read_text())
        tags = {
            "task": job.task,
            "step": str(facts["step"]),
            "sha256": sums[checkpoint.MODEL],
            "manifest_sha256": facts["samples"]["manifest"],
            "git_revision": facts["git_revision"],
        }
        if facts.get("init"):
            tags["init"] = facts["init"]["model"]
        (released / JOB_FILE).write_text(recipes.to_json(job))
        registry = Registry()
        try:
            version = registry.register(f"laformer-{job.task}", released, run_id, tags)
            if job.candidate:
                registry.nominate(version)
        except UnavailableError as error:
            raise JobError(
                f"the run is at its end, but not registered: {error}; the same command again "
                "registers it"
            ) from error
    return Trained(version, run_id, facts)


def tell_replaced(tracker: Tracker, run_id: str) -> None:
    """Say how many samples came from other photos than planned, if any."""
    counts = [int(count) for _, count in tracker.history(run_id, "replaced_samples")]
    if counts and counts[-1]:
        say(
            f"{counts[-1]} samples were cut from other photos because theirs could not be read; "
            "run laformer prepare again to find out which"
        )


def same_run(
    name: str, job: str, samples: dict[str, object], origin: initial.Origin | None
) -> None:
    """Keep what a run is in its folder, and refuse to continue it as something else.

    `job.json` there runs again with `laformer train --job`. Raises JobError naming the values
    that differ.
    """
    folder = place.run_folder(name)
    documents = {JOB_FILE: job, SAMPLES_FILE: json.dumps(samples, indent=2, sort_keys=True) + "\n"}
    if origin is not None:
        documents[initial.INIT_FILE] = json.dumps(origin.facts, indent=2) + "\n"
    for file, text in documents.items():
        uri = storage.join(folder, file)
        if not storage.exists(uri):
            storage.put(uri, text.encode())
            continue
        stored = storage.get(uri).decode()
        if file == JOB_FILE:
            # A value that a run of an earlier version had no name for is the default of this one.
            stored = recipes.to_json(recipes.from_json(stored))
        earlier, present = flatten(json.loads(stored)), flatten(json.loads(text))
        differing = [
            f"{key} was {earlier.get(key)}, is {present.get(key)}"
            for key in sorted(earlier.keys() | present.keys())
            if earlier.get(key) != present.get(key) and key not in CHANGES_NOTHING
        ]
        if differing:
            raise JobError(
                f"the run {name} was started with other values ({'; '.join(differing)}); "
                "give this one a name of its own with --name, or the same values to resume"
            )


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested values into dotted names and strings."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


def git_revision() -> str:
    """Return the commit of the code that runs, or "unknown" outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(  # noqa: S603 - nothing in it comes from outside
            command, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
