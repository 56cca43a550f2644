"""What workers have to tell the user, and what is wanted of them: a small actor between the two."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from jobs.console import say
from jobs.training.watching import here, watched
from laformer.listening import STOP

FLUSH_S = 5.0
"""Longest wait of a process that tells something before it ends."""


class Wall:
    """Holds lines, a few for each start of workers, and wishes until they are granted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lost = ""
        self.num_workers = 0
        self.wish = ""

    def tell(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)

    def hold(self, text: str) -> None:
        """Keep why workers were lost until it is known where training continues."""
        self.lost = text

    def continues(self, step: int, num_workers: int) -> None:
        """Add one line on a restart: what was lost, how many there are, where they continue."""
        words = [self.lost] if self.lost else []
        if self.num_workers not in (0, num_workers):
            words.append(f"{num_workers} worker{'s' * (num_workers > 1)} now")
        if step or self.lost:
            words.append(f"continuing from step {step}")
        if words:
            self.lines.append("; ".join(words))
        self.lost, self.num_workers = "", num_workers

    def want(self, wish: str) -> None:
        """Keep what is wanted of the workers; an end is more than a save."""
        self.wish = self.wish if self.wish == STOP else wish

    def wanted(self) -> str:
        """Return what is wanted. A save is wanted once, an end of workers that start later too."""
        wish, self.wish = self.wish, STOP if self.wish == STOP else ""
        return wish

    def read(self, num_known: int) -> list[str]:
        """Return the lines after those that are known: an answer that comes too late loses none."""
        return self.lines[num_known:]


@dataclass(frozen=True)
class Notices:
    """Where workers tell the user something: a value that can be pickled."""

    wall: Any
    """The actor."""

    @classmethod
    def create(cls) -> "Notices":
        """Start the actor; it lives as long as the driver holds this value."""
        return cls(here(Wall).remote())

    def tell(self, text: str) -> None:
        """Have a line printed by the driver."""
        self.wall.tell.remote(text)

    def tell_now(self, text: str) -> None:
        """Tell, and return when it has arrived: the caller is about to end."""
        with suppress(RayError):
            ray.get(self.wall.tell.remote(text), timeout=FLUSH_S)

    def hold(self, text: str) -> None:
        """Keep why workers were lost until it is known where training continues."""
        self.wall.hold.remote(text)

    def want(self, wish: str) -> None:
        """Want something of the workers, who ask every few seconds."""
        self.wall.want.remote(wish)

    def wanted(self) -> str:
        """Return what is wanted of the workers by now."""
        with suppress(RayError):
            return str(ray.get(self.wall.wanted.remote(), timeout=FLUSH_S))
        return ""

    def continues(self, step: int, num_workers: int) -> None:
        """Tell where training continues and by how many, and what was lost before."""
        self.wall.continues.remote(step, num_workers)


def printed(notices: Notices) -> AbstractContextManager[None]:
    """Print what workers tell while the body runs."""
    num_known = 0

    def ask() -> ray.ObjectRef:
        return notices.wall.read.remote(num_known)

    def print_all(lines: list[str]) -> None:
        nonlocal num_known
        num_known += len(lines)
        for line in lines:
            say(line)

    return watched("notices", ask, print_all)
