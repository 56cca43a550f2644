"""What Prometheus can scrape of a job: Ray exports it beside its own metrics, on every host.

Ray puts `ray_` before the names here; the label `job_name` says which job. The board and the alerts
in infra/monitoring are made of these.
"""

from dataclasses import dataclass, field
from typing import Any

from ray.util import metrics

TRAINING = {
    "step": "Steps that are done.",
    "loss": "Mean loss since the last log.",
    "samples_per_s": "Samples per second, all workers together.",
    "data_wait_fraction": "Part of the time that the slowest worker waited for data, 0 to 1.",
    "memory_mb": "Largest resident set of a worker, MB.",
    "gpu_memory_mb": "Most memory that torch reserved on a GPU, MB.",
    "replaced_samples": "Samples whose photo could no longer be read, since the last start.",
    "skipped_steps": "Steps that were skipped because a gradient was no number.",
    "val_psnr_db": "PSNR of the held-out photos, dB.",
    "workers": "Training workers.",
}
"""Of `laformer train`, by the name that MLflow has too."""
RESTORING = {
    "restored_images": "Photos that are restored, those of earlier calls included.",
    "bad_images": "Photos that have a reason instead of a result.",
    "images_per_s": "Photos per second since this call began.",
    "images_left": "Photos that have no receipt yet.",
}
"""Of `laformer restore`."""


@dataclass
class Gauges:
    """Shows numbers of one job as they change."""

    job: str
    """Name of the run or of the target."""
    described: dict[str, str]
    """What is shown: `TRAINING` or `RESTORING`."""
    made: dict[str, Any] = field(default_factory=dict)

    def show(self, numbers: dict[str, float]) -> None:
        """Show those of the numbers that are described."""
        for name in self.described.keys() & numbers.keys():
            if name not in self.made:
                self.made[name] = metrics.Gauge(
                    f"laformer_{name}", self.described[name], tag_keys=("job_name",)
                ).set_default_tags({"job_name": self.job})
            self.made[name].set(numbers[name])
