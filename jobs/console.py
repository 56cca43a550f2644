"""What a person sees: plain lines in a log, spinners and bars on a terminal.

With LAFORMER_LOG=json every line is one JSON object for machines that collect logs: `time` (UTC),
`level` (info, warning or error), `job` and `text`. Tables stay text.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

CONSOLE = Console(highlight=False, soft_wrap=True)
LOG_VARIABLE, JSON = "LAFORMER_LOG", "json"


@dataclass
class Speaker:
    """Who speaks."""

    job: str = ""
    """Verb and name of the job of this process."""


SPEAKER = Speaker()


def say(text: str) -> None:
    """Print a line; one that begins with `warning: ` has that level where lines are JSON."""
    if os.environ.get(LOG_VARIABLE) == JSON:
        warned = text.startswith("warning: ")
        print(line(text, "warning" if warned else "info"), flush=True)
    else:
        CONSOLE.print(text, markup=False)


def complain(error: BaseException | str) -> None:
    """Print an error as one message on stderr."""
    if os.environ.get(LOG_VARIABLE) == JSON:
        print(line(str(error), "error"), file=sys.stderr, flush=True)
    else:
        print(f"error: {error}", file=sys.stderr)


def line(text: str, level: str) -> str:
    """Return a line for machines."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "level": level, "job": SPEAKER.job, "text": text})


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
def bar(text: str, total: int, *, line_every_s: float = 15.0) -> Iterator["Bar"]:
    """Show how far a counted work is: a bar on a terminal, a line now and then in a log."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as progress:
        yield Bar(text, total, progress, line_every_s)


@dataclass
class Pace:
    """How fast a counted work advances, from what was seen of it.

    What was done before the first look was done at another time: a resumed run starts in the
    middle.
    """

    total: int
    first: tuple[int, float] | None = None
    """What was done at the first look at which anything was done, and when that was, in s."""
    last: tuple[int, float] | None = None
    """The same of the last look at which more was done."""

    def look(self, done: int, now: float) -> None:
        """Take note that so much is done at this time in s."""
        if self.first is None:
            self.first = (done, now) if done else None
        elif done > (self.last or self.first)[0]:
            self.last = (done, now)

    def left_s(self, now: float) -> float | None:
        """Return the seconds that the rest takes at the mean pace; None before there is one."""
        if self.first is None or self.last is None:
            return None
        pace_s = (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])
        since = min(now - self.last[1], pace_s * (self.total - self.last[0]))
        return pace_s * (self.total - self.last[0]) - since


def lasting(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 3 min, 2 h 5 min, 3 d 4 h.

    >>> [lasting(s) for s in (0.4, 59, 90, 7500, 273600)]
    ['1 s', '59 s', '2 min', '2 h 5 min', '3 d 4 h']
    """
    if round(seconds) < 60:
        return f"{max(1, round(seconds))} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Bar:
    """How far a counted work is."""

    def __init__(self, text: str, total: int, progress: Progress, line_every_s: float) -> None:
        self.text, self.progress, self.line_every_s = text, progress, line_every_s
        self.task = progress.add_task(text, total=total, note="", left="")
        self.total, self.pace = total, Pace(total)
        self.said_at, self.said, self.over = time.perf_counter(), "", False

    def update(self, done: int, note: str = "") -> None:
        """Show `done` of the total, a short note, and how long the rest takes."""
        now = time.perf_counter()
        self.pace.look(done, now)
        left_s = self.pace.left_s(now) if done < self.total else None
        left = "" if left_s is None else f"{lasting(left_s)} left"
        self.progress.update(self.task, completed=done, note=note, left=left)
        counted = f"{self.text}: {done} of {self.total} {note}".rstrip()
        text = f"{counted}, {left}" if left else counted
        over = done == self.total
        due = now - self.said_at > self.line_every_s or (over and not self.over)
        self.over = over
        if due and text != self.said and not CONSOLE.is_terminal:
            say(text)
            self.said_at, self.said = now, text
