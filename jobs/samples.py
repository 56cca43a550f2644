"""What a run learns from and is measured on."""

from typing import Any

import ray

from jobs import place
from jobs.config import TrainJob
from jobs.console import working
from jobs.errors import JobError
from jobs.evaluate import Judge
from pipelines import tasks
from pipelines.stages import StagedStream
from pipelines.tasks import Task
from pipelines.validation import WholePhotos, validation_stream


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
