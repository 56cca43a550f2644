"""A search as it goes on: which trial comes next, which go on, what is kept. Without Ray."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.search.halving import Rungs
from jobs.search.journal import Journal, Record
from jobs.search.proposals import Proposer
from jobs.search.spaces import Space, Values


@dataclass
class Search:
    """Trials by number, those of earlier calls included."""

    journal: Journal
    space: Space
    proposer: Proposer
    rungs: Rungs
    trials: int
    """Numbers of trials end before this one."""
    last_step: int
    """Steps of a trial that nothing ends."""
    stall: int | None = None
    """Finished or stopped trials in a row without a better one that end the search."""
    over: Callable[[Record], None] = lambda _record: None
    """Is told of every trial that is over."""
    devices: int = 1
    """Of one trial."""
    first: Values | None = None
    """The values of the recipe, if the space holds them."""
    records: dict[int, Record] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """Number by the id of a trial in Tune."""
    waiting: list[Record] = field(default_factory=list)
    """Trials of an earlier call that did not come to an end: they begin again, first."""

    def __getstate__(self) -> dict[str, Any]:
        """Give Tune's own copies the name alone: the journal is what a search continues from."""
        return {"journal": self.journal}

    def resume(self) -> None:
        """Take over what earlier calls left behind."""
        for record in self.journal.records():
            known = record.parsed(self.space)
            if known.status == "running":
                self.waiting.append(fresh(known))
            else:
                self.records[known.number] = known
                self.proposer.learn(known)
        self.rungs.load(self.records.values())

    def next(self) -> Record | None:
        """Return the next trial, or None when there is none."""
        record = self.waiting.pop(0) if self.waiting else self._proposed()
        if record is not None:
            record = dataclasses.replace(record, asked=time.time())
            self.records[record.number] = record
            self.journal.put(record)
        return record

    def _proposed(self) -> Record | None:
        number = max(self.records, default=-1) + 1
        if number >= self.trials or self.stalled:
            return None
        # First of all the recipe as it stands: a search ends no worse than it began.
        values = self.proposer.propose(number) if number else self.first or {}
        if values is None:
            return None
        return Record(number=number, values=values, devices=self.devices)

    @property
    def stalled(self) -> bool:
        """Return whether the last trials brought nothing better."""
        over = [r for _, r in sorted(self.records.items()) if r.status in ("finished", "stopped")]
        best = self.best
        if self.stall is None or best is None:
            return False
        return sum(record.number > best.number for record in over) >= self.stall

    @property
    def best(self) -> Record | None:
        """Return the finished trial with the highest PSNR."""
        done = [record for record in self.records.values() if record.status == "finished"]
        return max(done, key=lambda record: record.psnr_db or 0.0, default=None)

    def result(self, number: int, result: dict[str, Any]) -> bool:
        """Keep a result; return whether the trial goes on."""
        record = self.records[number]
        values = dict(result.get("values", record.last_values))
        if values != record.last_values:
            record = record.from_other(result["resumed"], result["donor"], values)
        record = record.after(result)
        goes_on = False
        if record.error is not None:
            record = dataclasses.replace(record, status="failed")
        elif result["step"] >= self.last_step:
            record = dataclasses.replace(record, status="finished")
        elif self.rungs.passes(number, record.steps, record.psnr_db or 0.0):
            goes_on = True
        else:
            record = dataclasses.replace(record, status="stopped")
        self._keep(record)
        return goes_on

    def failed(self, number: int, error: str) -> None:
        """Keep that a trial could not be run."""
        record = self.records[number]
        if record.status == "running":
            self._keep(dataclasses.replace(record, status="failed", error=error))

    def _keep(self, record: Record) -> None:
        self.records[record.number] = record
        self.journal.put(record)
        if record.status != "running":
            self.proposer.learn(record)
            self.over(record)


def fresh(record: Record) -> Record:
    """Return a trial as it was before its first step; what it cost until then is not forgotten."""
    return Record(
        number=record.number,
        values=record.values,
        devices=record.devices,
        lost_s=record.lost_s + record.seconds,
    )
