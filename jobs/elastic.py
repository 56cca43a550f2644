"""Workers that come and go with the hosts: as many as there is room for and the batch allows."""

from typing import Any

import ray
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

from jobs.errors import JobError

RESIZE_S = 600.0
"""Seconds between two looks for room for more workers: growing costs a start, and the steps since
the last checkpoint."""


def sizes(least: int, most: int, samples: int) -> tuple[int, ...]:
    """Return the numbers of workers that share so many samples evenly.

    Raises JobError if none does.
    """
    found = tuple(n for n in range(least, most + 1) if samples % n == 0)
    if not found:
        raise JobError(
            f"no number of {least} to {most} workers divides {samples}, what the parts of the "
            f"batches of all stages have in common; use one of its divisors"
        )
    return found


def num_cpus() -> int:
    """Return the CPUs of the cluster."""
    return int(ray.cluster_resources().get("CPU", 0))


class DividingPolicy(ElasticScalingPolicy):  # type: ignore[misc]
    """Ray's elastic policy, but a worker that would leave lanes over is not started."""

    def __init__(self, scaling_config: ScalingConfig, allowed: tuple[int, ...]) -> None:
        super().__init__(scaling_config)
        self.allowed = allowed

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        room = super()._count_possible_workers(reserved_resources)
        if not self.scaling_config.use_gpu:
            room = min(room, num_cpus() - 1)  # the stream that feeds them needs a core
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
