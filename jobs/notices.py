"""What workers have to tell the user: a small actor that they write to and the driver prints."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.console import say

POLL_S = 0.5
ANSWER_S = 5.0
"""Longest wait for the wall, whose cluster may be gone."""
FLUSH_S = 5.0
"""Longest wait of a process that tells something before it ends."""


class Wall:
    """Holds lines until somebody reads them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lost = ""

    def tell(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)

    def hold(self, text: str) -> None:
        """Keep why workers were lost until it is known where training continues."""
        self.lost = text

    def continues(self, step: int) -> None:
        """Add one line on a restart: what was lost and where training continues."""
        if self.lost:
            self.lines.append(f"{self.lost}; continuing from step {step}")
        elif step:
            self.lines.append(f"continuing from step {step}")
        self.lost = ""

    def take(self) -> list[str]:
        """Return the lines that were not read before."""
        taken, self.lines = self.lines, []
        return taken


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

    def continues(self, step: int) -> None:
        """Tell where training continues, and what was lost before."""
        self.wall.continues.remote(step)


def here(actor: type) -> Any:
    """Return an actor class that runs on this host: the hosts of workers come and go."""
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=node)(actor)


@contextmanager
def printed(notices: Notices) -> Iterator[None]:
    """Print what workers tell while the body runs."""
    done = threading.Event()

    def watch() -> None:
        with suppress(RayError):
            over = False
            while not over:
                over = done.wait(POLL_S)
                with suppress(GetTimeoutError):  # a busy machine starts an actor late
                    for line in ray.get(notices.wall.take.remote(), timeout=ANSWER_S):
                        say(line)

    watcher = threading.Thread(target=watch, name="notices", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
