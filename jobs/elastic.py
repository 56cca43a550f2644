"""Workers that come and go with the hosts: as many as there is room for and the batch allows."""

from typing import Any

from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

from jobs.errors import JobError


def sizes(least: int, most: int, global_batch: int) -> tuple[int, ...]:
    """Return the numbers of workers that share a batch evenly. Raises JobError if none does."""
    found = tuple(n for n in range(least, most + 1) if global_batch % n == 0)
    if not found:
        raise JobError(
            f"global batch {global_batch} does not divide among {least} to {most} workers; "
            f"use a multiple of {least}"
        )
    return found


class DividingPolicy(ElasticScalingPolicy):  # type: ignore[misc]
    """Ray's elastic policy, but a worker that would leave lanes over is not started."""

    def __init__(self, scaling_config: ScalingConfig, allowed: tuple[int, ...]) -> None:
        super().__init__(scaling_config)
        self.allowed = allowed

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        room = super()._count_possible_workers(reserved_resources)
        return max((n for n in self.allowed if n <= room), default=0)


class ElasticTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray's trainer with that policy. Ray 2.60 has no public place for a policy."""

    def __init__(self, *args: Any, allowed: tuple[int, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.allowed = allowed

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        if len(self.allowed) > 1:
            options["scaling_policy"] = DividingPolicy(self.scaling_config, self.allowed)
        return super()._initialize_and_run_controller(**options)
