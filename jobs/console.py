"""What a person sees: plain lines in a log, spinners and bars on a terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

CONSOLE = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line."""
    CONSOLE.print(text, markup=False)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something is under way, and how long it took."""
    started = time.perf_counter()
    if CONSOLE.is_terminal:
        with CONSOLE.status(text):
            yield
    else:
        say(f"{text} …")
        yield
    say(f"{text}: {time.perf_counter() - started:.1f} s")


@contextmanager
def bar(text: str, total: int) -> Iterator["Bar"]:
    """Show how far a counted work is: a bar on a terminal, a line now and then in a log."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as progress:
        yield Bar(text, total, progress)


class Bar:
    """How far a counted work is."""

    LINE_EVERY_S = 15.0

    def __init__(self, text: str, total: int, progress: Progress) -> None:
        self.text, self.total, self.progress = text, total, progress
        self.task = progress.add_task(text, total=total, note="")
        self.said_at, self.said = time.perf_counter(), ""

    def update(self, done: int, note: str = "") -> None:
        """Show `done` of the total, and a short note."""
        self.progress.update(self.task, completed=done, note=note)
        now = time.perf_counter()
        line = f"{self.text}: {done} of {self.total} {note}".rstrip()
        due = now - self.said_at > self.LINE_EVERY_S or done == self.total
        if due and line != self.said and not CONSOLE.is_terminal:
            say(line)
            self.said_at, self.said = now, line
