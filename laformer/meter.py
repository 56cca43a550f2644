"""What a worker measures from one log to the next: loss, speed, waiting, memory."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from laformer.batches import Rows
from laformer.loop import StepResult
from laformer.telemetry import peak_memory_mb


@dataclass
class Meter:
    """Counts of one worker since the last log."""

    num_workers: int
    """They share what is logged."""
    losses: list[Tensor] = field(default_factory=list)
    num_samples: int = 0
    """Samples of this worker."""
    replaced: int = 0
    """Samples whose photo could no longer be read and was replaced, since the start."""
    clock: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0
    """Seconds spent waiting for data."""

    def fetched(self, rows: Rows) -> None:
        """Count what the stream gave."""
        self.replaced += int((rows["replaced"] > 0).sum())

    def done(self, result: StepResult) -> None:
        """Count a step. One that was skipped has no loss."""
        self.losses.append(result.loss.new_tensor(math.nan) if result.skipped else result.loss)
        self.num_samples += len(result.sample_ids)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the body as waiting for data."""
        began = time.perf_counter()
        yield
        self.waited_s += time.perf_counter() - began

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the time of the body out: it is no time of the steps around it."""
        began = time.perf_counter()
        yield
        self.clock += time.perf_counter() - began

    def numbers(self, result: StepResult, num_skipped: int) -> dict[str, float]:
        """Return the means over steps and workers, and count anew. All workers must call it."""
        mean = torch.stack(self.losses).nanmean()
        self.losses.clear()
        totals = torch.stack([mean, mean.new_tensor(self.replaced)])
        if self.num_workers > 1:
            dist.all_reduce(totals)
        loss, replaced = totals[0] / self.num_workers, totals[1]
        elapsed, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        memory_mb = peak_memory_mb(mean.device)
        used = self._most(mean.device, self.waited_s / elapsed, *memory_mb)
        samples_per_s = self.num_samples * self.num_workers / elapsed
        self.num_samples, self.waited_s = 0, 0.0
        return {
            "loss": loss.item(),
            "lr": result.lr,
            "grad_norm": result.grad_norm.item(),
            "samples_per_s": samples_per_s,
            "data_wait_fraction": used[0],
            "memory_mb": used[1],
            **({"gpu_memory_mb": used[2]} if used[2] else {}),
            "replaced_samples": replaced.item(),
            "skipped_steps": num_skipped,
        }

    def _most(self, device: torch.device, *values: float) -> list[float]:
        """Return the largest of each over workers: all wait for the slowest."""
        totals = torch.tensor(values, dtype=torch.float64, device=device)
        if self.num_workers > 1:
            dist.all_reduce(totals, dist.ReduceOp.MAX)
        most: list[float] = totals.tolist()
        return most
