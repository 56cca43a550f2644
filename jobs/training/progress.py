"""How far a remote work is: a small actor that workers tell and the driver asks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from jobs.console import Bar, bar, say
from jobs.gauges import TRAINING, Gauges
from jobs.training.recording import Array, MlflowObserver, RunRecorder
from jobs.training.watching import here, watched

LINE_EVERY_S = 60.0
"""A log has a line this often, and one for each validation."""
VALIDATED = "val_psnr_db"
"""The number that is told whenever it is new."""


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
    return here(Board).remote()


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
        at = {f"{name}.step": float(step) for name in metrics if name == VALIDATED}
        self.board.post.remote({"step": float(step), **metrics, **at})
        self.recorder.log(step, metrics)

    def picture(self, step: int, name: str, pixels: Array) -> None:
        """Record a picture (H, W, 3) uint8."""
        self.recorder.picture(step, name, pixels)

    def close(self) -> None:
        """Wait until everything is recorded."""
        self.recorder.close()


@contextmanager
def shown(board: Any, name: str, total: int) -> Iterator[None]:
    """Show the board of a run as a progress bar, and to Prometheus, while the body runs."""
    with ExitStack() as stack:
        progress = stack.enter_context(bar("training", total, line_every_s=LINE_EVERY_S))
        tell = Teller(progress, "training", Gauges(name, TRAINING)).tell
        stack.enter_context(watched("progress", board.read.remote, tell))
        yield


class Teller:
    """Shows the numbers of a board, and says each validation once."""

    def __init__(self, progress: Bar, text: str, gauges: Gauges) -> None:
        self.progress, self.text, self.gauges, self.validated = progress, text, gauges, 0

    def tell(self, numbers: dict[str, float]) -> None:
        """Show what is new."""
        self.gauges.show(numbers)
        step = int(numbers.get(f"{VALIDATED}.step", 0))
        if step > self.validated:
            self.validated = step
            say(f"{self.text}: held-out {numbers[VALIDATED]:.2f} dB after {step} steps")
        self.progress.update(int(numbers.get("step", 0)), note(numbers))


def note(numbers: dict[str, float]) -> str:
    """Say the most telling numbers in a few words."""
    words = {
        "loss": "loss {:.4f}",
        "samples_per_s": "{:.3g} samples/s",
        "data_wait_fraction": "{:.0%} waiting for data",
        VALIDATED: "held-out {:.2f} dB",
    }
    return ", ".join(
        pattern.format(numbers[name]) for name, pattern in words.items() if name in numbers
    )
