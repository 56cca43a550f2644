"""The receipts of a restoration job: what became of every image, below the target.

    TARGET/.laformer/JOB/job.json             what the job is, and which round is under way
    TARGET/.laformer/JOB/ROUND/part-*.parquet receipts, written after the images they are about
    TARGET/.laformer/JOB/report.json, .html   what came of it
    TARGET/.laformer/JOB/shares/              rows of huge photos, while the job runs (shares.py)

A job is what changes pixels or names: another source, version or option is another one, and the
target holds the results of at most one of them under each name (docs/adr/0011-receipts.md).
"""

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import storage
from pipelines.errors import OutageError, StorageError
from pipelines.parts import Parts

FOLDER = ".laformer"
"""Hidden folder below the target: never taken for photos."""
PART_EVERY_S = 5.0
"""A job that dies repeats at most what was finished since the last receipts were written."""
PARTS_OF_ONE = 32
"""A part of seconds is merged with this many of its kind: a long job leaves few objects."""
AT_ONCE = 16
"""Results that are read at the same time when they are verified."""
RESTORED: Literal["restored"] = "restored"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("target_key", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("how", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("out_height", pa.int32()),
        ("out_width", pa.int32()),
        ("in_bytes", pa.int64()),
        ("out_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("etag", pa.string()),
        ("seconds", pa.float64()),
        ("attempt", pa.int32()),
        ("model", pa.string()),
        ("source", pa.string()),
        ("run", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of one image."""

    key: str
    """Below the source."""
    target_key: str
    """Below the target."""
    status: Literal["restored", "bad"]
    """A bad image has a reason instead of a result."""
    reason: str = ""
    """Why it is bad."""
    how: str = ""
    """A word of the model on how it did it."""
    height: int = 0
    """Pixels of what was read, after the orientation was applied."""
    width: int = 0
    """Pixels of what was read."""
    out_height: int = 0
    """Pixels of what was written."""
    out_width: int = 0
    """Pixels of what was written."""
    in_bytes: int = 0
    """Size of the file that was read."""
    out_bytes: int = 0
    """Size of the file that was written."""
    sha256: str = ""
    """Of the bytes that were written."""
    etag: str = ""
    """Of the bytes that were read, as listed."""
    seconds: float = 0.0
    """From the first byte asked for to the last byte written."""
    attempt: int = 1
    """How often it was begun in this run."""


@dataclass(frozen=True)
class Ledger:
    """The receipts of one job."""

    target: str
    """uri of the folder or bucket that is written."""
    facts: Mapping[str, str]
    """What makes the job: source, model and every option that changes pixels or names."""
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    """Names this start of the command in its receipts."""
    began_s: float = field(default_factory=time.monotonic)
    """When that was."""

    @property
    def name(self) -> str:
        """Return what tells this job from every other."""
        return hashlib.sha256(json.dumps(dict(self.facts), sort_keys=True).encode()).hexdigest()[
            :16
        ]

    @property
    def folder(self) -> str:
        """Return where everything about the job is."""
        return storage.join(self.target, FOLDER, self.name)

    @property
    def shares(self) -> str:
        """Return where, below the target, actors leave their shares of one huge photo."""
        return f"{FOLDER}/{self.name}/shares"

    def begin(self, *, again: bool) -> "Round":
        """Return the round that is under way, or a new one when `again` is asked of a finished one.

        A round that was killed goes on, whatever is asked: otherwise a job that replaces results
        would begin anew with every start.
        """
        known = self._state()
        if known.get("round") and not (again and known.get("finished")):
            return Round(self, str(known["round"]))
        stale = Parts(self.folder, SCHEMA)
        names = stale.names()
        fresh = Round(self, f"{time.time_ns():020d}")
        fresh.say(finished=False)
        stale.delete(names)
        return fresh

    def others(self, target_keys: pa.ChunkedArray) -> "list[Claim]":
        """Return the jobs whose receipts claim some of these names below the target."""
        root = storage.join(self.target, FOLDER)
        jobs = {name.partition("/")[0] for name in Parts(root, SCHEMA).names()} - {self.name}
        claims = []
        for job in sorted(jobs):
            parts = Parts(storage.join(root, job), SCHEMA)
            names = parts.names()
            rows = parts.read(names)
            claimed = pc.is_in(rows["target_key"], value_set=target_keys.combine_chunks())
            mine = pc.and_(claimed, pc.equal(rows["status"], RESTORED))
            if pc.any(mine).as_py():
                claims.append(Claim(parts, tuple(names), rows.filter(mine), rows))
        return claims

    def _state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(storage.get(storage.join(self.folder, "job.json")))
        except OutageError:
            raise
        except (StorageError, ValueError):
            return {}
        return found


@dataclass(frozen=True)
class Claim:
    """Names below the target that hold results of another job."""

    parts: Parts
    """Where that job keeps its receipts."""
    names: tuple[str, ...]
    """Its parts."""
    rows: pa.Table
    """The receipts of these names."""
    everything: pa.Table
    """All its receipts."""

    @property
    def model(self) -> str:
        """Return the version of that job."""
        return str(self.rows["model"][0].as_py())

    def release(self) -> None:
        """Take the names from that job: it will find them missing and not take ours for its own."""
        taken = pc.is_in(
            self.everything["target_key"], value_set=self.rows["target_key"].combine_chunks()
        )
        self.parts.replace(self.names, self.everything.filter(pc.invert(taken)))


@dataclass(frozen=True)
class Round:
    """One way through the images of a job, from its first start to its end."""

    ledger: Ledger
    name: str
    """Of the folder of its parts."""

    @property
    def parts(self) -> Parts:
        """Return its receipts as they are stored."""
        return Parts(storage.join(self.ledger.folder, self.name), SCHEMA)

    def say(self, *, finished: bool) -> None:
        """Store what the job is and how far it is."""
        state = {"facts": dict(self.ledger.facts), "round": self.name, "finished": finished}
        self.store("job.json", json.dumps(state, indent=2).encode())

    def store(self, name: str, data: bytes) -> str:
        """Keep a file beside the receipts; return its uri."""
        uri = storage.join(self.ledger.folder, name)
        storage.put(uri, data)
        return uri

    def keep(self, receipts: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass receipts on, writing a part every few seconds and at the end, come what may."""
        parts, waiting, written = self.parts, list[dict[str, Any]](), list[str]()
        facts = {"model": self.ledger.facts["model"], "source": self.ledger.facts["source"]}
        facts["run"] = self.ledger.run
        written_at = time.monotonic()
        try:
            for receipt in receipts:
                waiting.append(receipt | facts)
                yield receipt
                if time.monotonic() - written_at > PART_EVERY_S:
                    written.append(parts.write(pa.Table.from_pylist(waiting, SCHEMA)))
                    waiting, written_at = [], time.monotonic()
                if len(written) == PARTS_OF_ONE:
                    parts.merge(written)
                    written = []
        finally:
            if waiting:
                parts.write(pa.Table.from_pylist(waiting, SCHEMA))


def settled(receipts: pa.Table, items: pa.Table, there: pa.Table) -> pa.Table:
    """Return the receipts of what need not be done again.

    An image is done again when it was bad, when it changed since, when it shall have another name,
    or when its result is not there with the size that was written. `items` has key, target_key and
    etag, `there` is the listing of the target.
    """
    done = receipts.filter(pc.equal(receipts["status"], RESTORED))
    found = done.take(_places(items, done["key"]))
    same = _equal(found, _beside(items, found), ("etag", "target_key"))
    done = found.filter(same)
    sizes = there["num_bytes"].take(pc.index_in(done["target_key"], value_set=_values(there)))
    # Receipts of a version that wrote no size down have 0.
    known = pc.or_(pc.equal(done["out_bytes"], 0), pc.equal(done["out_bytes"], sizes))
    return done.filter(pc.fill_null(pc.and_(pc.is_valid(sizes), known), fill_value=False))


def _values(table: pa.Table, name: str = "key") -> Any:
    return table[name].combine_chunks()


def _places(items: pa.Table, keys: pa.ChunkedArray) -> pa.Array:
    """Return the rows of `keys` that are among the items, in the order of the items."""
    places = pc.index_in(_values(items), value_set=keys.combine_chunks())
    return pc.drop_null(places)


def _beside(items: pa.Table, found: pa.Table) -> pa.Table:
    return items.take(pc.index_in(_values(found), value_set=_values(items)))


def _equal(left: pa.Table, right: pa.Table, names: tuple[str, ...]) -> Any:
    same = np.ones(left.num_rows, bool)
    for name in names:
        same &= np.asarray(pc.fill_null(pc.equal(left[name], right[name]), fill_value=False))
    return pa.array(same)


def intact(receipts: pa.Table, target: str) -> pa.Table:
    """Return the receipts whose results have the bytes that were written: reads all of them."""

    def is_intact(target_key: str, sha256: str) -> bool:
        try:
            data = storage.get(storage.join(target, target_key))
        except OutageError:
            raise
        except StorageError:
            return False
        return hashlib.sha256(data).hexdigest() == sha256

    with ThreadPoolExecutor(AT_ONCE) as threads:
        columns = (receipts[name].to_pylist() for name in ("target_key", "sha256"))
        good = list(threads.map(is_intact, *columns))
    return receipts.filter(pa.array(good, pa.bool_()))


def without(items: pa.Table, receipts: pa.Table) -> pa.Table:
    """Return the items that have no receipt among these."""
    return items.filter(pc.invert(pc.is_in(items["key"], value_set=_values(receipts))))
