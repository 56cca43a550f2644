"""How far a remote work is: a small actor that workers tell and the driver asks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from jobs.console import bar
from jobs.tracking import Array, MlflowObserver, RunRecorder

POLL_S = 0.5


class Board:
    """Holds the last numbers of a run."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}

    def post(self, numbers: dict[str, float]) -> None:
        """Replace the numbers that are named."""
        self.numbers |= numbers

    def read(self) -> dict[str, float]:
        """Return the last numbers."""
        return self.numbers


def board() -> Any:
    """Start a board."""
    return ray.remote(num_cpus=0)(Board).remote()


@dataclass(frozen=True)
class BoardObserver:
    """Makes an observer that tells the tracking server and the board: a value to be pickled."""

    tracking: MlflowObserver
    board: Any

    def __call__(self) -> "BoardRecorder":
        """Connect, inside the worker."""
        return BoardRecorder(self.tracking(), self.board)


@dataclass(frozen=True)
class BoardRecorder:
    """Tells both."""

    recorder: RunRecorder
    board: Any

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record numbers of a step."""
        self.board.post.remote({"step": float(step), **metrics})
        self.recorder.log(step, metrics)

    def picture(self, step: int, name: str, pixels: Array) -> None:
        """Record a picture (H, W, 3) uint8."""
        self.recorder.picture(step, name, pixels)

    def close(self) -> None:
        """Wait until everything is recorded."""
        self.recorder.close()


@contextmanager
def shown(board: Any, text: str, total: int) -> Iterator[None]:
    """Show the board as a progress bar while the body runs."""
    done = threading.Event()

    def watch() -> None:
        with bar(text, total) as progress, suppress(RayError):
            while not done.wait(POLL_S):
                numbers = ray.get(board.read.remote())
                progress.update(int(numbers.get("step", 0)), note(numbers))

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def note(numbers: dict[str, float]) -> str:
    """Say the most telling numbers in a few words."""
    words = {
        "loss": "loss {:.4f}",
        "samples_per_s": "{:.0f} samples/s",
        "val_psnr_db": "held-out {:.2f} dB",
    }
    return ", ".join(
        pattern.format(numbers[name]) for name, pattern in words.items() if name in numbers
    )
