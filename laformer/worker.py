"""What each Ray Train worker runs: the loop of `laformer.loop`, fed and saved by Ray.

The stream, the tracking and the storage arrive as values: this file knows neither MLflow nor
buckets.
"""

import math
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import CheckpointUploadMode

from laformer import initial, loop, parallel, sharding, shelf
from laformer.assignment import Notices, Observer, WorkerJob
from laformer.batches import Array, Batch, Lanes, Rows, steps_of, to_batch
from laformer.checkpoint import Snapshot
from laformer.errors import CheckpointError, LeavingError, StreamError
from laformer.guard import SHOWN
from laformer.keeper import Keeper
from laformer.listening import STOP, Listening
from laformer.loop import State, StepResult
from laformer.memory import free_bytes
from laformer.meter import Meter
from laformer.model import LAformer
from laformer.patience import Record
from laformer.pictures import side_by_side
from laformer.saving import Saving
from laformer.watchdog import Watchdog

PICTURES = 3
"""Validated images that are logged as pictures."""
LAST_WORDS_S = 30.0
"""Longest wait of a worker that is about to end for the checkpoint that is being stored."""
COLLATERAL_S = 5.0
"""How long a worker keeps an error that may come from a lost peer: the loss is told instead."""


def train_worker(config: dict[str, Any]) -> None:
    """Train, continuing from the run's newest good checkpoint if there is one."""
    job: WorkerJob = config["job"]
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.train.seed)
    rank = ray.train.get_context().get_world_rank()
    # Before anything that waits for a device, a peer or storage.
    watchdog = Watchdog(job.hang_s, partial(tell_now, job.notices, f"worker {rank}"))
    try:
        state = beginning(job)
        Worker(job, state, resume(job, state), watchdog).run()
    except Exception as error:
        # Ray sends the error without its traceback.
        error.add_note(f"on worker {rank}:")
        error.add_note(traceback.format_exc())
        raise
    finally:
        watchdog.stop()


def beginning(job: WorkerJob) -> State:
    """Return the state before the first step: whole, or this worker's share of it."""
    device, num_workers = ray.train.torch.get_device(), ray.train.get_context().get_world_size()
    if job.train.shard and num_workers > 1:
        return sharding.create(job.model, job.train, device)
    return State.create(LAformer(job.model).to(device), job.train)


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
        job.notices.continues(step, ray.train.get_context().get_world_size())
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
    meter: Meter = field(init=False)
    saving: Saving = field(init=False)
    observer: Observer | None = None
    keeper: Keeper | None = None
    listening: Listening = field(init=False)
    saved_step: int = -1
    """The last step that was handed to be stored."""
    stopping: bool = False
    """Whether the user wants the run to end."""

    def __post_init__(self) -> None:
        """Begin to count."""
        self.meter = Meter(self.size)
        self.listening = Listening.after_start(self.state.step)
        self.saving = Saving.after_start(self.state.step, self.job.train.checkpoint_every)

    def run(self) -> None:
        """Fit segment by segment; a failing worker still stores what it has saved."""
        job = self.job
        if not parallel.is_sharded(self.state.model):
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
        if self.observer is not None and not self._over():
            # One number a start: how often the run was begun again, and by how many workers.
            self.observer.log(started_at, {"workers": float(self.size)})
        while not self._over():
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
        steps = steps_of(blocks, lanes, first_step=first)
        while not self._stopped():
            with self.meter.waiting():
                parts = next(steps, None)
            if parts is None:
                return
            for part in parts:
                self.meter.fetched(part)
            yield to_batch(*parts, device=device)

    def _stopped(self) -> bool:
        """Return whether the run, or its user, has lost patience."""
        return self.stopping or self.record.exhausts(self.job.train.patience)

    def _over(self) -> bool:
        """Return whether there is nothing left to do."""
        return self.state.step >= self.job.train.steps or self._stopped()

    def _after_step(self, state: State, result: StepResult) -> None:
        config = self.job.train
        self.watchdog.beat()
        if result.skipped:
            self._tell_skipped(result)
        self.meter.done(result)
        last = state.step == config.steps
        if state.step % config.log_every == 0 or last:
            self._log(result)
        if state.step % config.checkpoint_every == 0 or last:
            with self.meter.aside():
                self._validate_and_save()
        elif state.step in self.saving.early:
            self._save({})
        if self.listening.due(state.step) and not self._over():
            self._listen()

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
        """Record the means since the last log. All ranks must call it."""
        numbers = self.meter.numbers(result, self.state.skips.total)
        if self.observer is not None:
            # A skipped step has no norm, and where all were skipped there is no loss.
            finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
            self.observer.log(self.state.step, finite)

    def _validate_and_save(self) -> None:
        """Validate on all ranks and save."""
        psnr_db = self._validate()
        self.record = self.record.after(self.state.step, psnr_db)
        self._save({"val_psnr_db": psnr_db})

    def _save(self, scores: dict[str, Any]) -> None:
        """Hand a copy of the state to the thread that stores it; report from every rank."""
        if self.state.step == self.saved_step:
            return
        self.saved_step = self.state.step
        scores = scores | self.record.facts
        whole = sharding.gather(self.state, self.job.train, keep=self.keeper is not None)
        if self.keeper is not None and whole is not None:
            self.keeper.put(Snapshot.take(whole, {**self.job.facts, **scores}))
        told = {"step": self.state.step, "over": self._over(), **scores}
        # Without a checkpoint: the shelf keeps these. ASYNC, or it would wait for Ray to look.
        ray.train.report(told, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)

    def _listen(self) -> None:
        """Ask, on all ranks, whether the user wants something or a host is about to go away."""
        told = None
        if self.rank == 0:
            told = self.job.notices.wanted(), self.listening.plan(self.state.step)
        wanted, self.listening.next_step = ray.train.collective.broadcast_from_rank_zero(told)
        if wanted:
            self.stopping = wanted == STOP
            self._save({})
        elif ray.train.get_preemption_info() is not None:
            self._leave()

    def _leave(self) -> None:
        """Save and end, to be started on other hosts; go on where it cannot be stored."""
        if self.rank == 0:
            self.job.notices.tell(
                f"a host is about to be taken away; saving step {self.state.step}"
            )
        self._save({})
        stored = self.keeper.settled(LAST_WORDS_S) if self.keeper is not None else None
        if ray.train.collective.broadcast_from_rank_zero(stored):
            raise LeavingError(f"the workers were asked to leave at step {self.state.step}")

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
