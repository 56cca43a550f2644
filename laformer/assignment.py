"""What a training worker is told, as one value, and to whom it speaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from laformer import loop
from laformer.batches import Array
from laformer.config import ModelConfig, TrainConfig
from laformer.shelf import Shelf


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

    def wanted(self) -> str:
        """Return what the user wants of the workers by now: SAVE, STOP, or nothing."""

    def continues(self, step: int, num_workers: int) -> None:
        """Tell from where training goes on, and by how many."""


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """Everything a worker needs, as one value that can be pickled."""

    model: ModelConfig
    """The network."""
    train: TrainConfig
    """The training."""
    segment: Callable[[int, int, int], Any]
    """(first_step, last_step, num_workers) -> ray.data.Dataset of the workers' blocks in turn."""
    validation: Any
    """Reference in Ray's store to rows {key, lq, gt}: a list, or what makes them when iterated."""
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
    initial: Any = None
    """Reference to the files of the released model that a run starts from; None: random weights."""
