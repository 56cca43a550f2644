"""What a search has done, on storage: one JSON file a trial, written as soon as it changes.

    search.json         what is searched; another search is refused under the same name
    trials/00007.json   values and results of trial 7
    best.json, ...      what comes out

A killed search loses the trials that were running, no result.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from jobs import place
from jobs.errors import JobError
from jobs.search.spaces import Space, Values
from pipelines import storage

Status: TypeAlias = Literal["running", "finished", "stopped", "failed"]
SEARCH_FILE, TRIALS = "search.json", "trials"


@dataclass(frozen=True, kw_only=True)
class Change:
    """Where a trial went on from another one, with other values."""

    step: int
    donor: int
    """Number of the trial whose weights it took."""
    values: dict[str, Any]
    """Its own values from then on."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A trial and what became of it."""

    number: int
    """Counted from 0."""
    values: Values
    """Value by name of entry; empty for the recipe as it stands."""
    status: Status = "running"
    """Finished has done all steps; stopped was ended for others that were better."""
    points: tuple[tuple[int, float], ...] = ()
    """Step and held-out PSNR in dB, by rising step."""
    objectives: dict[str, float] = field(default_factory=dict)
    """What the search asks for, of a trial that is finished."""
    seconds: float = 0.0
    """Time in training and validation."""
    lost_s: float = 0.0
    """Time of earlier beginnings that a killed search did not bring to an end."""
    asked: float = 0.0
    """When it was proposed, in seconds since 1970, as all moments here."""
    ready: float = 0.0
    """When its process had its first batch; 0 where workers ran it."""
    began: tuple[float, ...] = ()
    """When each part up to a validation began."""
    ended: tuple[float, ...] = ()
    """When each ended."""
    process: str = ""
    """Host and process that ran it; empty where workers did."""
    devices: int = 1
    """GPUs, or processes on CPUs, that it kept busy."""
    error: str | None = None
    """Why it failed."""
    changes: tuple[Change, ...] = ()
    """Of a population: what it took from others."""

    @property
    def steps(self) -> int:
        """Steps until the last validation."""
        return self.points[-1][0] if self.points else 0

    @property
    def psnr_db(self) -> float | None:
        """The last held-out PSNR, or None before the first."""
        return self.points[-1][1] if self.points else None

    @property
    def startup_s(self) -> float | None:
        """Seconds from the proposal to the first batch, where that is known."""
        return self.ready - self.asked if self.ready and self.asked else None

    @property
    def device_s(self) -> float:
        """Seconds of all its devices."""
        return (self.seconds + self.lost_s) * self.devices

    @property
    def last_values(self) -> Values:
        """The values at its end."""
        return self.changes[-1].values if self.changes else self.values

    def parsed(self, space: Space) -> "Record":
        """Return the record with values as the space means them: JSON has no tuples."""
        changes = (
            dataclasses.replace(change, values=space.parse(change.values))
            for change in self.changes
        )
        return dataclasses.replace(self, values=space.parse(self.values), changes=tuple(changes))

    def from_other(self, step: int, donor: int, values: Values) -> "Record":
        """Return the record of a trial that goes on from a checkpoint of another one."""
        return dataclasses.replace(
            self,
            points=tuple(point for point in self.points if point[0] <= step),
            changes=(*self.changes, Change(step=step, donor=donor, values=values)),
        )

    def after(self, result: dict[str, Any]) -> "Record":
        """Return the record with one more result of the trial."""
        points = dict(self.points)
        if "psnr_db" in result:
            points[int(result["step"])] = float(result["psnr_db"])
        return dataclasses.replace(
            self,
            points=tuple(sorted(points.items())),
            objectives=dict(result.get("objectives", ())),
            seconds=float(result["seconds"]),
            ready=float(result.get("ready", self.ready)),
            began=(*self.began, float(result["began"])),
            ended=(*self.ended, float(result["ended"])),
            process=str(result.get("process", "")),
            error=result.get("failed"),
        )


@dataclass(frozen=True)
class Journal:
    """The folder of a search."""

    name: str

    @property
    def folder(self) -> str:
        """Return where it is."""
        return storage.join(place.store(), "tune", self.name)

    def open(self, search: dict[str, str]) -> None:
        """Keep what is searched, or refuse to continue as something else, naming what differs."""
        uri = storage.join(self.folder, SEARCH_FILE)
        if not storage.exists(uri):
            self.write(SEARCH_FILE, search)
            return
        earlier: dict[str, str] = json.loads(storage.get(uri))
        differing = [
            f"{key} was {earlier.get(key)}, is {search.get(key)}"
            for key in sorted(earlier.keys() | search.keys())
            if earlier.get(key) != search.get(key)
        ]
        if differing:
            raise JobError(
                f"the search {self.name} was started with other values ({'; '.join(differing)}); "
                "give this one a name of its own with --name, or the same values to continue"
            )

    def put(self, record: Record) -> None:
        """Keep a trial."""
        self.write(f"{TRIALS}/{record.number:05d}.json", dataclasses.asdict(record))

    def records(self) -> list[Record]:
        """Return all trials by number."""
        folder = storage.join(self.folder, TRIALS)
        if not storage.exists(folder):
            return []
        entries = storage.list_entries(folder, (".json",))
        return sorted(
            (_record(json.loads(storage.get(storage.join(folder, e.key)))) for e in entries),
            key=lambda record: record.number,
        )

    def read(self, file: str) -> Any:
        """Return the JSON of a file beside the trials, or None when there is none."""
        uri = storage.join(self.folder, file)
        return json.loads(storage.get(uri)) if storage.exists(uri) else None

    def write(self, file: str, value: Any) -> str:
        """Write JSON beside the trials; return where."""
        uri = storage.join(self.folder, file)
        storage.put(uri, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
        return uri


def _record(values: dict[str, Any]) -> Record:
    """Read a trial; tuples are lists in JSON."""
    points = tuple((int(step), float(psnr_db)) for step, psnr_db in values.pop("points"))
    changes = tuple(Change(**change) for change in values.pop("changes"))
    began, ended = (tuple(values.pop(name)) for name in ("began", "ended"))
    return Record(points=points, changes=changes, began=began, ended=ended, **values)
