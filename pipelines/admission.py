"""Who may go on inside an actor whose threads work on several images, and who was begun too often.

One image is read and one is written while a third is restored. What they hold is bounded in bytes,
and an image that was in hand when its actor died is tried again alone, so that it takes no other
one along.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray

REMEMBERED = 65536
"""Finished images that are known: more than the tasks under way of many hundred actors hold."""


@dataclass
class Room:
    """A number of bytes that several threads share; what is larger waits until all is free."""

    limit: int
    """Bytes."""
    used: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def holding(self, num_bytes: int) -> Iterator[None]:
        """Wait for so many bytes and give them back after the body."""
        wanted = min(max(0, num_bytes), self.limit)
        with self.changed:
            self.changed.wait_for(lambda: self.used + wanted <= self.limit)
            self.used += wanted
        try:
            yield
        finally:
            with self.changed:
                self.used -= wanted
                self.changed.notify_all()


class Attempts:
    """How often images were begun that did not end, and what became of those that did."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.ended: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def begin(self, name: str, alone: bool) -> tuple[int, dict[str, Any] | None]:
        """Return how often an image was begun without an end, and its receipt if it has ended.

        It counts as begun once more, unless it was begun before and is not alone yet.
        """
        known = self.ended.get(name)
        before = self.begun.get(name, 0)
        if known is None and (alone or not before):
            self.begun[name] = before + 1
        return before, known

    def end(self, name: str, receipt: dict[str, Any]) -> None:
        """Remember what became of an image: a task that is repeated need not do it again."""
        self.begun.pop(name, None)
        self.ended[name] = receipt
        while len(self.ended) > REMEMBERED:
            self.ended.popitem(last=False)


class Attendance(Protocol):
    """Where actors note which image they begin and end."""

    def begin(self, name: str, alone: bool) -> tuple[int, dict[str, Any] | None]:
        """Return what `Attempts.begin` does."""

    def end(self, name: str, receipt: dict[str, Any]) -> None:
        """Remember what became of an image."""


@dataclass(frozen=True)
class Shared:
    """Attempts in a process of their own, which outlives the actors that note them."""

    handle: Any
    """Ray's handle of it."""

    @classmethod
    def start(cls) -> "Shared":
        """Start the process."""
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts)
        return cls(actor.remote())

    def begin(self, name: str, alone: bool) -> tuple[int, dict[str, Any] | None]:
        """Ask, and wait for the answer: an image that kills must have been noted before."""

        def ask() -> tuple[int, dict[str, Any] | None]:
            before, known = ray.get(self.handle.begin.remote(name, alone))
            return int(before), known

        # A task that Ray repeats gives its calls the ids that they had the first time; those of
        # another thread are new ones.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(ask).result()

    def end(self, name: str, receipt: dict[str, Any]) -> None:
        """Note and go on."""
        self.handle.end.remote(name, receipt)


@dataclass
class Company:
    """Threads that work side by side, or one that works alone."""

    present: int = 0
    alone: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait until nobody is alone."""
        with self.changed:
            self.changed.wait_for(lambda: not self.alone)
            self.present += 1
        try:
            yield
        finally:
            with self.changed:
                self.present -= 1
                self.changed.notify_all()

    @contextmanager
    def solitude(self) -> Iterator[None]:
        """Let nobody begin, and wait until nobody else is at work."""
        with self.changed:
            self.changed.wait_for(lambda: not self.alone)
            self.alone = True
            self.changed.wait_for(lambda: not self.present)
        try:
            yield
        finally:
            with self.changed:
                self.alone = False
                self.changed.notify_all()
