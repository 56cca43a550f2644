"""What a run is measured on while it trains."""

from typing import Any

import ray

from jobs.config import TrainJob
from jobs.console import working
from jobs.evaluation.measures import Judge
from jobs.training.inputs import manifest_uris
from pipelines import tasks
from pipelines.validation import WholePhotos, validation_stream


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
