"""What each Ray Train worker runs: the loop of `laformer.loop`, fed and saved by Ray.

The stream, the tracking and the storage arrive as values: this file knows neither MLflow nor
buckets.
"""

import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import CheckpointUploadMode
from torch import nn

from laformer import initial, loop, parallel, sharding, shelf
from laformer.batches import Array, Batch, Lanes, Rows, steps_of, to_batch
from laformer.checkpoint import Snapshot
from laformer.config import ModelConfig, TrainConfig
from laformer.errors import CheckpointError, StreamError
from laformer.guard import SHOWN
from laformer.keeper import Keeper
from laformer.loop import State, StepResult, Validated
from laformer.memory import free_bytes
from laformer.model import LAformer
from laformer.patience import Record
from laformer.shelf import Shelf
from laformer.telemetry import peak_memory_mb
from laformer.watchdog import Watchdog

PICTURES = 3
"""Validated images that are logged as pictures."""
PICTURE_PX = 512
"""Longest side of a logged picture of one image."""
NOTICE_EVERY = 10
"""Steps between two questions whether a host is about to be taken away."""
LAST_WORDS_S = 30.0
"""Longest wait of a failing worker for the checkpoint that is being stored."""
COLLATERAL_S = 5.0
"""How long a worker keeps an error that may come from a lost peer: the loss is told instead."""


class Observer(Protocol):
    """Where rank 0 tells what happens."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record numbers of a step."""

    def picture(self, step: int, name: str, pixels: Array) -> None:
        """Record a picture (H, W, 3) uint8."""

    def close(self) -> None:
        """Wait until everything is recorded."""


class Notices(Protocol):
    """Where a worker tells the user what happens to it."""

    def tell(self, text: str) -> None:
        """Tell."""

    def tell_now(self, text: str) -> None:
        """Tell, and return when it has arrived."""

    def continues(self, step: int) -> None:
        """Tell from where training goes on."""


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """Everything a worker needs, as one value that can be pickled."""

    model: ModelConfig
    """The network."""
    train: TrainConfig
    """The training."""
    segment: Callable[[int, int, int], Any]
    """(first_step, last_step, num_workers) -> ray.data.Dataset of the workers' blocks in turn."""
    validation: ray.ObjectRef
    """Rows {key, lq, gt} in the object store: a list, or what makes them when iterated."""
    observer: Callable[[], Observer]
    """Makes the observer of rank 0."""
    facts: dict[str, Any]
    """JSON that every checkpoint carries: job, fingerprint of the samples, tracking run."""
    threads: int
    """torch threads of this worker when it has no GPU."""
    shelf: Shelf
    """The checkpoints of the run."""
    notices: Notices
    """Where the user is told what happens to the workers."""
    hang_s: float
    """Seconds without progress after which a worker ends itself, to be started again."""
    judge: Callable[[Array, Array], float] = loop.rgb_psnr_db
    """(restored, gt) -> PSNR in dB."""
    protocol: str | None = None
    """Name of the rule by which `judge` compares, if it has one."""
    initial: ray.ObjectRef | None = None
    """Files of the released model that a run without checkpoints starts from; None: random."""


def train_worker(config: dict[str, Any]) -> None:
    """Train, continuing from the run's newest good checkpoint if there is one."""
    job: WorkerJob = config["job"]
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.train.seed)
    rank = ray.train.get_context().get_world_rank()
    # Before anything that waits for a device, a peer or storage.
    watchdog = Watchdog(job.hang_s, partial(tell_now, job.notices, f"worker {rank}"))
    try:
        state = State.create(LAformer(job.model).to(ray.train.torch.get_device()), job.train)
        Worker(job, state, resume(job, state), watchdog).run()
    except Exception as error:
        # Ray sends the error without its traceback.
        error.add_note(f"on worker {rank}:")
        error.add_note(traceback.format_exc())
        raise
    finally:
        watchdog.stop()


def tell_now(notices: Notices, who: str, text: str) -> None:
    """Tell what becomes of a worker, by its name."""
    notices.tell_now(f"{who} {text}")


def resume(job: WorkerJob, state: State) -> Record:
    """Bring all ranks to the checkpoint that rank 0 finds good; return the best validation."""
    rank, chosen = ray.train.get_context().get_world_rank(), None
    if rank == 0:
        facts = shelf.load_newest(job.shelf, state, job.notices.tell)
        chosen = state.step, Record.of(facts).facts
    step, record = ray.train.collective.broadcast_from_rank_zero(chosen)
    if rank == 0:
        job.notices.continues(step)
    elif step:
        shelf.load(job.shelf, step, state)
    if not step and job.initial is not None:
        initial.start_from(state, ray.get(job.initial))
    return Record.of(record)


@dataclass
class Worker:
    """One rank: its share of the lanes, of the validation images and of the reporting."""

    job: WorkerJob
    state: State
    record: Record
    """The best validation; the same on every rank, for all have the same sum."""
    watchdog: Watchdog
    """Is told of every step and every validated image."""
    rank: int = field(default_factory=lambda: ray.train.get_context().get_world_rank())
    size: int = field(default_factory=lambda: ray.train.get_context().get_world_size())
    losses: list[torch.Tensor] = field(default_factory=list)
    num_samples: int = 0
    """Samples of this rank since the last log."""
    replaced: int = 0
    """Samples whose photo could no longer be read and was replaced."""
    observer: Observer | None = None
    keeper: Keeper | None = None
    announced: object = None
    """The last notice that a host is about to be taken away."""
    clock: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0
    """Seconds spent waiting for data since the last log."""

    def run(self) -> None:
        """Fit segment by segment; a failing worker still stores what it has saved."""
        job = self.job
        if job.train.shard and self.size > 1:
            self.state = sharding.shard(self.state, job.train)
        else:
            self.state.forward = parallel.wrapped(self.state.model, job.train, self.size)
        if self.rank == 0:
            self.observer = job.observer()
            self.keeper = Keeper(job.shelf, job.train.keep_checkpoints, job.notices.tell)
        try:
            self._segments()
        except Exception as error:
            if self.keeper is not None:
                with suppress(CheckpointError):
                    self.keeper.close(LAST_WORDS_S)
            if self.observer is not None:
                self.observer.close()
            if isinstance(error, RuntimeError) and self.size > 1:
                time.sleep(COLLATERAL_S)
            raise
        if self.keeper is not None:
            self.keeper.close()
        if self.observer is not None:
            self.observer.close()

    def _segments(self) -> None:
        config, started_at = self.job.train, self.state.step
        if self.observer is not None and started_at < config.steps and not self._stopped():
            # One number a start: how often the run was begun again, and by how many workers.
            self.observer.log(started_at, {"workers": float(self.size)})
        while self.state.step < config.steps and not self._stopped():
            last = config.segment_end(self.state.step)
            loop.fit(self.state, self._batches(last), config, after_step=self._after_step)
            if self.state.step < last and not self._stopped():
                raise StreamError(
                    f"the stream ended at step {self.state.step} instead of {last}; "
                    "run the same command again to resume from the last checkpoint"
                )

    def _batches(self, last: int) -> Iterator[Batch]:
        """Yield this rank's batches of steps [state.step, last); rank 0 starts the stream."""
        first = self.state.step
        lanes = Lanes.of(self.rank, self.size, self.job.train.stage_at(first).global_batch)
        # The list of iterators is too long for a broadcast: its reference travels instead.
        refs = None
        if self.rank == 0:
            stream = self.job.segment(first, last, self.size)
            refs = [ray.put(stream.streaming_split(self.size, equal=True))]
        iterators = ray.get(ray.train.collective.broadcast_from_rank_zero(refs)[0])
        blocks: Iterator[Rows] = iterators[self.rank].iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=2
        )
        device = ray.train.torch.get_device()
        rows = steps_of(blocks, lanes, first_step=first)
        while not self._stopped():
            asked = time.perf_counter()
            step = next(rows, None)
            self.waited_s += time.perf_counter() - asked
            if step is None:
                return
            self.replaced += int((step["replaced"] > 0).sum())
            yield to_batch(step, device)

    def _stopped(self) -> bool:
        """Return whether the run has lost its patience."""
        return self.record.exhausts(self.job.train.patience)

    def _after_step(self, state: State, result: StepResult) -> None:
        config = self.job.train
        self.watchdog.beat()
        if result.skipped:
            self._tell_skipped(result)
        self.losses.append(result.loss.new_tensor(math.nan) if result.skipped else result.loss)
        self.num_samples += len(result.sample_ids)
        last = state.step == config.steps
        if state.step % config.log_every == 0 or last:
            self._log(result)
        if state.step % config.checkpoint_every == 0 or last:
            self._validate_and_save()
        elif state.step % NOTICE_EVERY == 0:
            self._save_if_announced()

    def _tell_skipped(self, result: StepResult) -> None:
        step, in_row = self.state.step - 1, self.state.skips.in_row
        if self.rank == 0:
            self.job.notices.tell(
                f"warning: step {step} is skipped, its gradient is no number ({in_row} in a row)"
            )
        if not result.loss.isfinite().item():
            ids = ", ".join(map(str, result.sample_ids.tolist()[:SHOWN]))
            self.job.notices.tell(f"warning: among the samples {ids} of step {step} is the cause")

    def _log(self, result: StepResult) -> None:
        """Record the mean loss over ranks and steps since the last log, and the speed."""
        mean = torch.stack(self.losses).nanmean()
        self.losses.clear()
        totals = torch.stack([mean, mean.new_tensor(self.replaced)])
        if self.size > 1:
            dist.all_reduce(totals)
        loss, replaced = totals[0] / self.size, totals[1]
        elapsed, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        used = self._most(self.waited_s / elapsed, *peak_memory_mb(mean.device))
        if self.observer is not None:
            numbers = {
                "loss": loss.item(),
                "lr": result.lr,
                "grad_norm": result.grad_norm.item(),
                "samples_per_s": self.num_samples * self.size / elapsed,
                "data_wait_fraction": used[0],
                "memory_mb": used[1],
                **({"gpu_memory_mb": used[2]} if used[2] else {}),
                "replaced_samples": replaced.item(),
                "skipped_steps": self.state.skips.total,
            }
            # A skipped step has no norm, and where all were skipped there is no loss.
            finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
            self.observer.log(self.state.step, finite)
        self.num_samples, self.waited_s = 0, 0.0

    def _most(self, *values: float) -> list[float]:
        """Return the largest of each over ranks: all wait for the slowest."""
        totals = torch.tensor(values, dtype=torch.float64, device=ray.train.torch.get_device())
        if self.size > 1:
            dist.all_reduce(totals, dist.ReduceOp.MAX)
        most: list[float] = totals.tolist()
        return most

    def _validate_and_save(self) -> None:
        """Validate on all ranks and save; this is no time of the steps around it."""
        began = time.perf_counter()
        psnr_db = self._validate()
        self.record = self.record.after(self.state.step, psnr_db)
        self._save({"val_psnr_db": psnr_db})
        self.clock += time.perf_counter() - began

    def _save(self, scores: dict[str, Any]) -> None:
        """Hand a copy of the state to the thread that stores it; report from every rank."""
        scores = scores | self.record.facts
        whole = sharding.gather(self.state, self.job.train)
        if self.keeper is not None:
            self.keeper.put(Snapshot.take(whole, {**self.job.facts, **scores}))
        # Without a checkpoint: the shelf keeps these. ASYNC, or it would wait for Ray to look.
        ray.train.report(
            {"step": self.state.step, **scores}, checkpoint_upload_mode=CheckpointUploadMode.ASYNC
        )

    def _save_if_announced(self) -> None:
        """Save when a host of this run is about to be taken away; Ray starts anew when it is."""
        announced = ray.train.get_preemption_info()
        if announced is not None and announced != self.announced:
            if self.rank == 0:
                self.job.notices.tell(
                    f"a host is about to be taken away; saving step {self.state.step}"
                )
            self._save({})
            self.announced = announced

    def _validate(self) -> float:
        """Return the mean PSNR in dB of all held-out images, each on one rank."""
        rows = ray.get(self.job.validation)[self.rank :: self.size]
        total, num = 0.0, 0
        pictures: list[tuple[str, Array]] = []
        with loop.averaged(self.state) as model:
            for result in loop.validate(model, rows, self.job.judge, self._budget_bytes()):
                self.watchdog.beat()
                total, num = total + result.psnr_db, num + 1
                if len(pictures) < PICTURES:
                    pictures.append((result.key, side_by_side(result)))
        totals = torch.tensor([total, num], dtype=torch.float64)
        totals = totals.to(ray.train.torch.get_device())
        if self.size > 1:
            dist.all_reduce(totals)
        psnr_db = (totals[0] / totals[1]).item()
        if self.observer is not None:
            named = {f"val_psnr_db.{self.job.protocol}": psnr_db} if self.job.protocol else {}
            self.observer.log(self.state.step, {"val_psnr_db": psnr_db, **named})
            for key, picture in pictures:
                self.observer.picture(self.state.step, key, picture)
        return psnr_db

    def _budget_bytes(self) -> int:
        """Return the memory for one validated image: half of what is free, shared on one host."""
        device = ray.train.torch.get_device()
        sharing = 1 if device.type == "cuda" else ray.train.get_context().get_local_world_size()
        return free_bytes(device) // (2 * sharing)


def side_by_side(result: Validated) -> Array:
    """Return lq, restored and gt in one row (H, 3 W, 3) uint8, lq as large as the others.

    Of large images it is the centre.
    """
    scale = result.gt.shape[0] // result.lq.shape[0]
    small = [centre(length, PICTURE_PX // scale) for length in result.lq.shape[:2]]
    rows, columns = (slice(each.start * scale, each.stop * scale) for each in small)
    restored, gt = result.restored[rows, columns], result.gt[rows, columns]
    lq = result.lq[small[0], small[1], : gt.shape[2]]
    size, pictures = gt.shape[:2], [lq, restored, gt]
    images = [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in pictures]
    row = torch.cat([nn.functional.interpolate(image, size) for image in images], dim=3)
    return row[0].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def centre(length: int, most: int) -> slice:
    """Return the middle of an axis, or all of it."""
    start = max(0, (length - most) // 2)
    return slice(start, min(length, start + most))
