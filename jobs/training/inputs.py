"""What a job trains on, and whether its network fits that. No MLflow: trials start from here."""

from jobs import place
from jobs.config import TrainJob
from jobs.errors import JobError
from pipelines.stages import StagedStream
from pipelines.tasks import Task


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
