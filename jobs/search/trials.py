"""One trial of a search in a process of its own: no Ray Train, no checkpoints in storage.

A process serves one trial after the other: it has torch and the held-out photos already.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

import ray
import torch
from ray import tune

from jobs.config import TrainJob
from jobs.errors import JobError
from jobs.search import samples
from jobs.search.objectives import Objective
from jobs.search.samples import Blocks
from jobs.search.spaces import Space, Values
from jobs.training import inputs
from laformer import checkpoint, cost, loop
from laformer.batches import Array, Batch
from laformer.errors import TrainingError
from laformer.loop import State
from laformer.memory import free_bytes
from laformer.model import LAformer
from pipelines import tasks
from pipelines.errors import ManifestError

LATENCY_PX, LATENCY_CALLS = 256, 5
"""Side of the image whose restoration is timed, and how often; the median counts."""
UNFIT = (ValueError, JobError, ManifestError, TrainingError)
"""Errors that speak against the values of a trial, not against the machine that runs it."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all trials of a search have in common."""

    base: TrainJob
    """The job whose values are replaced."""
    space: Space
    milestones: tuple[int, ...]
    """Steps after which a trial is validated; the last one is its end."""
    objectives: tuple[Objective, ...]
    blocks: Blocks
    """Where samples come from."""
    validation: Any
    """Reference of the rows {key, lq, gt}: a list, or what makes them when iterated."""
    judge: Callable[[Array, Array], float]
    """(restored, gt) -> PSNR in dB."""
    threads: int
    """torch threads of a trial on a machine without GPU."""
    concurrent: int
    """Trials at the same time, which share the memory of a host."""


@dataclass
class Fitting:
    """A job between two validations."""

    job: TrainJob
    state: State
    batches: Iterator[Batch]

    @classmethod
    def create(cls, job: TrainJob, blocks: Blocks, device: torch.device) -> "Fitting":
        """Return a job before its first step: weights and samples as one worker has them."""
        task = tasks.find(job.task)
        inputs.check_model(job, task)
        staged = inputs.samples(job, inputs.manifest_uris(job), task)
        torch.manual_seed(job.train.seed)
        state = State.create(LAformer(job.model).to(device), job.train)

        def following() -> Iterator[Batch]:
            # Asked for at the first batch: a checkpoint may move the first step.
            yield from samples.batches(staged, state.step, job.train.steps, blocks, device)

        return cls(job, state, following())

    def prime(self) -> None:
        """Wait for the next batch."""
        self.batches = chain([next(self.batches)], self.batches)

    def until(self, step: int) -> None:
        """Train until so many steps are done."""
        some = islice(self.batches, step - self.state.step)
        loop.fit(self.state, some, self.job.train)

    def psnr_db(self, rows: Any, judge: Callable[[Array, Array], float], sharing: int) -> float:
        """Return the mean PSNR of held-out photos, restored by the averaged weights."""
        device = next(self.state.model.parameters()).device
        budget = free_bytes(device) // (2 * sharing)
        with loop.averaged(self.state) as model:
            return fmean(each.psnr_db for each in loop.validate(model, rows, judge, budget))


def measured(
    model: LAformer, psnr_db: float, objectives: tuple[Objective, ...]
) -> dict[str, float]:
    """Return what a search asks for, by name."""
    found: dict[str, float] = {"psnr": psnr_db}
    if {"params", "macs"} & set(objectives):
        counted = cost.cost(model.config)
        found["params"] = float(counted.parameters)
        found["macs"] = float(counted.weight_macs + counted.attention_macs)
    if "latency" in objectives:
        found["latency"] = latency_ms(model)
    return {name: found[name] for name in objectives}


@torch.no_grad()
def latency_ms(model: LAformer) -> float:
    """Return the median milliseconds of one forward pass: CPU time of this thread, or the GPU's."""
    device = next(model.parameters()).device
    lq = torch.zeros(1, model.config.in_channels, LATENCY_PX, LATENCY_PX, device=device)
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    model.eval()
    for _ in range(LATENCY_CALLS):
        began = clock()
        model(lq)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (clock() - began))
    model.train()
    torch.set_num_threads(threads)
    return median(times)


class SmallTrial(tune.Trainable):  # type: ignore[misc]
    """Serves trials to Ray Tune, one after the other."""

    def setup(self, config: dict[str, Any], shared: Shared) -> None:
        """Begin the first trial of this process."""
        self.shared = shared
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(shared.threads)
        self.rows: Any = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial."""
        self.values: Values = new_config["values"]
        self.fitting: Fitting | None = None
        self.seconds, self.ready, self.resumed = 0.0, 0.0, 0
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next milestone and validate."""
        began = time.time()
        try:
            return self._advance(began)
        except UNFIT as error:
            return {"failed": str(error), "step": 0, **self._clock(began)}

    def _advance(self, began: float) -> dict[str, Any]:
        fitting = self._fitting()
        state, shared = fitting.state, self.shared
        if not self.ready:
            fitting.prime()
            self.ready = time.time()
        milestone = next(each for each in shared.milestones if each > state.step)
        fitting.until(milestone)
        if self.rows is None:
            self.rows = ray.get(shared.validation)
        psnr_db = fitting.psnr_db(self.rows, shared.judge, shared.concurrent)
        if not math.isfinite(psnr_db):
            raise TrainingError(f"the held-out PSNR after {state.step} steps is no number")
        result: dict[str, Any] = {"step": state.step, "psnr_db": psnr_db}
        if state.step == shared.milestones[-1]:
            found = measured(state.model, psnr_db, shared.objectives)
            result["objectives"] = list(found.items())  # Tune would flatten a dictionary
        return result | self._clock(began)

    def _clock(self, began: float) -> dict[str, Any]:
        """Return when this part was under way, in which process, and the seconds so far."""
        ended = time.time()
        self.seconds += ended - began
        return {
            "seconds": self.seconds,
            "began": began,
            "ended": ended,
            "process": self._process,
            "ready": self.ready,
            "values": list(self.values.items()),
            "resumed": self.resumed,
        }

    @property
    def _process(self) -> str:
        return f"{ray.util.get_node_ip_address()}:{os.getpid()}"

    def _fitting(self) -> Fitting:
        if self.fitting is None:
            job = self.shared.space.apply(self.shared.base, self.values)
            self.fitting = Fitting.create(job, self.shared.blocks, self.device)
        return self.fitting

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep the whole state, for a trial that continues from this one."""
        checkpoint.save(Path(checkpoint_dir) / "state", self._fitting().state, {})

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from the state of a trial, with the values of this one."""
        state = self._fitting().state
        checkpoint.load_state(Path(checkpoint_dir) / "state", state)
        self.resumed = state.step
