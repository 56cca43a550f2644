"""Workers that come and go with the hosts: as many as there is room for and the batch allows."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray._private.state import state
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)

from jobs.errors import JobError
from laformer.listening import SAVE
from pipelines.errors import StorageError

STARVING_S = 30.0
"""Longest wait for workers without a stream to save, before they are replaced by fewer."""
RESIZE_S = 600.0
"""Seconds between two looks for room for more workers: growing costs a start."""


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


def leaving_hosts() -> set[str]:
    """Return the ids of the hosts that are about to be taken away: Ray starts nothing on them."""
    return set(state.get_draining_nodes())


def num_cpus() -> int:
    """Return the CPUs of the hosts that stay."""
    leaving = leaving_hosts()
    staying = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    return int(sum(node["Resources"].get("CPU", 0) for node in staying))


class DividingPolicy(ElasticScalingPolicy):  # type: ignore[misc]
    """Ray's elastic policy, but no worker leaves lanes over, and growing takes no steps back.

    Workers that run are asked to save, and replaced by more of them when that is in storage.
    """

    def __init__(
        self,
        scaling_config: ScalingConfig,
        allowed: tuple[int, ...],
        stored: Callable[[], list[int]],
        want: Callable[[str], None],
        explain: Callable[[str], None],
    ) -> None:
        super().__init__(scaling_config)
        self.allowed, self.stored, self.want, self.explain = allowed, stored, want, explain
        self.asked_s: float | None = None
        self.saved_step = 0

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Return what Ray decides, but not before a checkpoint reported since is stored."""
        decision = super().make_decision_for_running_worker_group(
            worker_group_state, worker_group_status
        )
        starving = self._are_starving(worker_group_state.num_workers)
        if self.asked_s is None and (starving or isinstance(decision, ResizeDecision)):
            self.asked_s = time.monotonic()
            self.want(SAVE)
        if self.asked_s is None:
            return NoopDecision()
        self.saved_step = max(self.saved_step, reported_step(worker_group_status))
        late = starving and time.monotonic() - self.asked_s > STARVING_S
        if not late and not (self.saved_step and self._is_stored()):
            return NoopDecision()
        self.asked_s, self.saved_step = None, 0
        # Once more: since Ray looked, hosts may have come or gone.
        num_workers = self._count_possible_workers(self._get_reserved_resources() or {})
        if num_workers in (0, worker_group_state.num_workers):
            return NoopDecision()
        if starving:
            self.explain("the stream that feeds the workers had no core left")
        return self._get_resize_decision(num_workers)

    def _are_starving(self, num_workers: int) -> bool:
        """Return whether workers have taken the last core from the stream that feeds them.

        Where a host has just died, Ray counts it until it is missed.
        """
        return not self.scaling_config.use_gpu and num_workers >= num_cpus()

    def _is_stored(self) -> bool:
        try:
            return max(self.stored(), default=0) >= self.saved_step
        except StorageError:
            return False

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        leaving = leaving_hosts()
        staying = {host: has for host, has in reserved_resources.items() if host not in leaving}
        room = super()._count_possible_workers(staying)
        if not self.scaling_config.use_gpu:
            room = min(room, num_cpus() - 1)  # the stream that feeds them needs a core
        return max((n for n in self.allowed if n <= room), default=0)


def reported_step(status: Any) -> int:
    """Return the step of the checkpoint that workers have just reported, or 0.

    The last of a run is none of these: workers that are about to end are left alone.
    """
    reports = [worker.training_report for worker in status.worker_statuses.values()]
    found = [report.metrics for report in reports if report is not None]
    return max((each["step"] for each in found if not each["over"]), default=0)


class ElasticTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray's trainer with that policy. Ray 2.60 has no public place for a policy."""

    def __init__(
        self, *args: Any, policy: Callable[[ScalingConfig], DividingPolicy], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.policy = policy

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        if isinstance(self.scaling_config.num_workers, tuple):
            options["scaling_policy"] = self.policy(self.scaling_config)
        return super()._initialize_and_run_controller(**options)

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to `stopping`: Ray's own way ends the workers before they save."""
