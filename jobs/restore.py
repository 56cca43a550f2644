"""laformer restore: a folder or bucket of photos in, the same names restored out.

The alias of the model is resolved to a version once. Finished images are receipts in Parquet
below the target; the same command again does only what is missing.
"""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["restore", *sys.argv[1:]]))

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from jobs import checkpoints, compare, place
from jobs.cluster import connected
from jobs.config import RestoreJob
from jobs.console import bar, say
from jobs.errors import JobError
from jobs.versions.registry import CHAMPION, Registry, Version
from laformer import checkpoint
from laformer.config import InferenceConfig
from laformer.errors import ModelError
from laformer.restore import AUTO, Restorer
from pipelines import images, storage
from pipelines.restoration import Stage, restoration_stream

PART_EVERY_S = 5.0
"""A job that dies repeats at most what was finished since the last receipts were written."""
RECEIPTS = ".laformer"
"""Hidden folder below the target: never taken for photos."""
SHOWN_BAD = 10


@dataclass(frozen=True)
class Restored:
    """Totals of a job."""

    model: str
    """The version that restored."""
    num_restored: int
    """Images written, now or by an earlier run of the same job."""
    num_bad: int
    """Images with a reason instead of a result."""
    receipts: list[dict[str, Any]]
    """One per image."""


@dataclass(frozen=True)
class LoadRestorer:
    """Loads the model in an actor of any host, which needs neither the registry nor a disk."""

    files: ray.ObjectRef
    """Names and bytes of a released checkpoint, in the object store."""
    threads: int
    """torch threads without a GPU."""
    inference: InferenceConfig = AUTO
    """How an image is restored."""

    def __call__(self) -> Restorer:
        """Unpack and load."""
        torch.set_num_threads(self.threads)
        with tempfile.TemporaryDirectory() as scratch:
            for name, data in ray.get(self.files).items():
                (Path(scratch) / name).write_bytes(data)
            restorer = Restorer.load(Path(scratch), inference=self.inference)
            # Every actor of a host has as many threads, and all of them look for memory at once.
            others = (os.cpu_count() or 1) // self.threads - 1
            return replace(restorer, neighbours=max(0, others))


def run(job: RestoreJob) -> Restored:
    """Restore everything below the source; write receipts; say what is bad.

    Raises JobError when nothing is there or too much of it is bad.
    """
    source, target, items = listed(job)
    model, files = load(job.model)
    ledger = Ledger(target, source, model)
    finished = {} if job.restore.overwrite else ledger.finished(items)
    todo = [item for item in items if item["key"] not in finished]
    say(f"{model}: {len(todo)} photos to restore, {len(items) - len(todo)} finished before")
    with connected() as cluster, bar("restoring", len(todo)) as progress:
        cluster.require_shared(source, target)
        pool = cluster.pool(job.restore.actors)
        stage = Stage(
            source=source,
            target=target,
            load=LoadRestorer(ray.put(files), cluster.threads(pool.actors), job.inference),
            known=(ModelError, MemoryError, torch.OutOfMemoryError),
        )
        stream = restoration_stream(todo, stage, pool) if todo else []
        num_bad = 0
        for done, receipt in enumerate(ledger.keep(stream), start=1):
            finished[receipt["key"]] = receipt
            progress.update(done, receipt["key"])
            num_bad += receipt["status"] != "restored"
            if num_bad > job.restore.max_bad_fraction * len(items):
                break  # the rest may be as bad; reconcile tells
    if job.compare:
        chosen = compare.Compared(source=source, target=target, model=model)
        made = compare.write(chosen, list(finished.values()), job.compare)
        say(f"before and after: {made}" if made else "no photo can be shown before and after")
    return reconcile(job, items, finished, model)


def listed(job: RestoreJob) -> tuple[str, str, list[dict[str, Any]]]:
    """Return source and target folder and the photos, each with its key in both.

    One photo may be given a name of its own. Raises JobError when there is no photo, or when the
    job would read what it writes.
    """
    source, target = storage.absolute(job.source), storage.absolute(job.target)
    entries = storage.list_entries(source, images.SUFFIXES)
    if not entries:
        raise JobError(
            f"no photos in {source}; put {', '.join(images.SUFFIXES)} files there or name another"
        )
    read, written = real(source), real(target)
    if written == read or written.startswith(f"{read}/"):
        raise JobError(
            f"target {target} lies in the source {source}: restored photos would be taken for "
            "new ones, or written over; use a folder beside it"
        )
    items = [{"key": entry.key, "target_key": entry.key, "etag": entry.etag} for entry in entries]
    folder = storage.folder_of(source, [entry.key for entry in entries])
    if folder != source and target.lower().endswith(images.SUFFIXES):
        target, items[0]["target_key"] = target.rsplit("/", 1)
    if real(folder) == real(target) and items[0]["key"] == items[0]["target_key"]:
        raise JobError(f"{source} would be written over itself; use another target")
    return folder, target, items


def real(uri: str) -> str:
    """Return what a uri is in the end: links and `..` of a local path followed."""
    return uri if storage.is_remote(uri) else str(Path(uri).resolve())


def load(model: str | None) -> tuple[str, dict[str, bytes]]:
    """Return the name of the exact version and the files of its checkpoint, verified."""
    with tempfile.TemporaryDirectory() as scratch:
        released = Path(scratch) / "released"
        if model and (folder := checkpoints.named(model)):
            checkpoint.release(checkpoints.fetch(folder, Path(scratch) / "copy"), released)
            sha256 = hashlib.sha256((released / checkpoint.MODEL).read_bytes()).hexdigest()
            name = f"{folder}@{sha256[:16]}"
        else:
            registry = Registry()
            version = registry.resolve(model) if model else only_champion(registry)
            name = str(version)
            checkpoint.release(registry.download(version, Path(scratch)), released)
        return name, {path.name: path.read_bytes() for path in released.iterdir()}


def only_champion(registry: Registry) -> Version:
    """Return the one champion there is. Raises JobError when there is none or a choice."""
    champions = registry.champions()
    if len(champions) == 1:
        return champions[0]
    names = ", ".join(f"{version.name}@{CHAMPION}" for version in champions)
    if names:
        raise JobError(f"there are several champions; choose one with --model: {names}")
    raise JobError(
        f"no model in {place.without_secret(registry.uri)} is a champion; make one with: make "
        "demo, or name a version or a checkpoint folder with --model"
    )


@dataclass(frozen=True)
class Ledger:
    """The receipts of one job: Parquet parts below the target, written whole, never changed."""

    target: str
    source: str
    model: str

    @property
    def folder(self) -> str:
        """Return where the parts are; another source or another version is another job."""
        job = hashlib.sha256(f"{self.source}\0{self.model}".encode()).hexdigest()[:16]
        return storage.join(self.target, RECEIPTS, job)

    def finished(self, items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the receipts of what need not be done again, by key.

        A photo is done again when it was bad, when it changed since, when it shall have another
        name, or when its result is no longer there.
        """
        receipts = self._read()
        if not receipts:
            return {}
        there = {entry.key for entry in storage.list_entries(self.target, images.SUFFIXES)}
        return {
            item["key"]: receipts[item["key"]]
            for item in items
            if item["key"] in receipts
            and item["target_key"] in there
            and all(receipts[item["key"]][name] == item[name] for name in ("etag", "target_key"))
        }

    def _read(self) -> dict[str, dict[str, Any]]:
        if not storage.is_remote(self.folder) and not Path(self.folder).exists():
            return {}
        parts = storage.list_entries(self.folder, (".parquet",))
        rows = [
            row
            for part in parts
            for row in pq.read_table(
                io.BytesIO(storage.get(storage.join(self.folder, part.key)))
            ).to_pylist()
        ]
        return {row["key"]: row for row in rows if row["status"] == "restored"}

    def keep(self, receipts: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass receipts on, writing a part every few seconds and at the end, come what may."""
        waiting: list[dict[str, Any]] = []
        written_at = time.monotonic()
        try:
            for receipt in receipts:
                waiting.append(receipt | {"model": self.model, "source": self.source})
                yield receipt
                if time.monotonic() - written_at > PART_EVERY_S:
                    self._write(waiting)
                    waiting, written_at = [], time.monotonic()
        finally:
            if waiting:
                self._write(waiting)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        name = f"part-{time.time_ns():020d}.parquet"
        storage.put(storage.join(self.folder, name), buffer.getvalue())


def reconcile(
    job: RestoreJob, items: list[dict[str, Any]], finished: dict[str, dict[str, Any]], model: str
) -> Restored:
    """Account for every listed photo. Raises JobError when too many are bad or one is missing."""
    receipts = [finished[item["key"]] for item in items if item["key"] in finished]
    bad = [receipt for receipt in receipts if receipt["status"] != "restored"]
    for receipt in bad[:SHOWN_BAD]:
        say(f"  bad: {receipt['key']}: {receipt['reason']}")
    say(f"{len(receipts) - len(bad)} restored, {len(bad)} bad, of {len(items)}: {job.target}")
    if len(bad) > job.restore.max_bad_fraction * len(items):
        raise JobError(
            f"{len(bad)} of {len(items)} photos are bad, more than --max-bad-fraction "
            f"{job.restore.max_bad_fraction}; see the reasons above"
        )
    if len(receipts) < len(items):
        raise JobError(
            f"{len(items) - len(receipts)} of {len(items)} photos have no receipt; "
            "run the same command again"
        )
    return Restored(model, len(receipts) - len(bad), len(bad), receipts)
