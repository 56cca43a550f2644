"""laformer restore: a folder or bucket of photos in, the same names restored out.

The alias of the model is resolved to a version once. Finished images are receipts in Parquet
below the target; the same command again does only what is missing.
"""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["restore", *sys.argv[1:]]))

import dataclasses
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from jobs import account, checkpoints, compare, place
from jobs.account import Account
from jobs.cluster import Cluster, connected
from jobs.config import RestoreJob
from jobs.console import bar, say
from jobs.errors import JobError
from jobs.gauges import RESTORING, Gauges
from jobs.versions import bundled
from jobs.versions.registry import CHAMPION, Registry, Version
from laformer import bundle, checkpoint
from laformer.batches import Array
from laformer.config import InferenceConfig
from laformer.errors import ModelError
from laformer.restore import AUTO, Restorer
from pipelines import huge, images, inventory, receipts, shares, storage
from pipelines.admission import Shared
from pipelines.inventory import Inventory
from pipelines.receipts import Ledger, Round
from pipelines.restoration import Stage, restoration_stream


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
            return dataclasses.replace(restorer, neighbours=max(0, others))


@dataclass(frozen=True)
class LoadRestore:
    """Loads what the stream calls."""

    loader: LoadRestorer

    def __call__(self) -> "Loaded":
        """Load."""
        return Loaded(self.loader())


@dataclass(frozen=True)
class Loaded:
    """A restorer as the stream calls it: pixels in, pixels and a word out."""

    restorer: Restorer

    def __call__(self, pixels: Array) -> tuple[Array, str]:
        """Restore an image that is held."""
        made = self.restorer.restore(pixels)
        return made.pixels, made.how

    @property
    def restore_parts(self) -> huge.Parts:
        """Return what restores an image that cannot be held."""
        return self.restorer.restore_parts


def run(job: RestoreJob) -> Account:
    """Restore everything below the source; write receipts and a report; say what is bad.

    Raises JobError when nothing is there, too much of it is bad or not all is accounted for.
    """
    source, target = listed(job)
    model, files = load(job.model, job.task)
    ledger = Ledger(target, identity(job, source.root, model))
    take_over(ledger, source.table, target, replace=job.restore.overwrite)
    round_ = ledger.begin(again=job.restore.overwrite)
    finished = settled(round_, source.table, target, verify=job.restore.verify)
    todo = receipts.without(source.table, finished)
    say(f"{model}: {todo.num_rows} photos to restore, {finished.num_rows} finished before")
    if todo.num_rows:
        round_.say(finished=False)
        with connected() as cluster, bar("restoring", todo.num_rows) as progress:
            stream = restored(job, ledger, todo, files=files, cluster=cluster)
            num_bad, gauges, began = 0, Gauges(job.target, RESTORING), time.monotonic()
            for done, receipt in enumerate(round_.keep(stream), start=1):
                progress.update(done, receipt["key"])
                num_bad += receipt["status"] != receipts.RESTORED
                gauges.show(
                    {
                        "restored_images": finished.num_rows + done - num_bad,
                        "bad_images": num_bad,
                        "images_left": todo.num_rows - done,
                        "images_per_s": done / (time.monotonic() - began),
                    }
                )
                if num_bad > job.restore.max_bad_fraction * source.table.num_rows:
                    break  # the rest may be as bad; the account tells
        shares.clear(target, ledger.shares)
    found = account.close(job, round_, source.table, listing(target))
    if job.compare:
        chosen = compare.Compared(source=source.root, target=target, model=model)
        made = compare.write(chosen, found.rows.to_pylist(), job.compare)
        say(f"before and after: {made}" if made else "no photo can be shown before and after")
    return found


def identity(job: RestoreJob, root: str, model: str) -> dict[str, str]:
    """Return what makes the job: everything that changes pixels or names.

    Which images of a source are chosen, and how the work is done, makes no other job.
    """
    options = {name: str(value) for name, value in job.inference.pixels().items()}
    return {"source": root, "model": model} | options


def restored(
    job: RestoreJob,
    ledger: Ledger,
    todo: pa.Table,
    *,
    files: dict[str, bytes],
    cluster: Cluster,
) -> Iterator[dict[str, Any]]:
    """Yield a receipt of every photo, first of those that need not be read to be bad."""
    for item in todo.filter(pc.not_equal(todo["reason"], "")).to_pylist():
        yield account.unread(item)
    readable = todo.filter(pc.equal(todo["reason"], ""))
    if not readable.num_rows:
        return
    source, target = ledger.facts["source"], ledger.target
    cluster.require_shared(source, target)
    pool = cluster.pool(job.restore.actors)
    loader = LoadRestorer(ray.put(files), cluster.threads(pool.actors), job.inference)
    stage = Stage(
        source=source,
        target=target,
        load=LoadRestore(loader),
        known=(ModelError, MemoryError, torch.OutOfMemoryError),
        attempts=Shared.start(),
        patience_s=job.restore.patience_s,
        shares=ledger.shares,
    )
    photos, others = shares.chosen(readable, stage, pool.actors)
    if photos:
        yield from shares.restored(photos, stage, pool)
    if others.num_rows:
        yield from restoration_stream(others, stage, pool)


def take_over(ledger: Ledger, items: pa.Table, target: str, *, replace: bool) -> None:
    """Make sure that no other job holds the names that this one will write.

    Raises JobError when one does, unless its results are to be replaced: they are then no longer
    counted as its own, so that neither job takes a result of the other for one of its own.
    """
    claims = ledger.others(items["target_key"])
    if not claims:
        return
    if not replace:
        num = sum(claim.rows.num_rows for claim in claims)
        names = ", ".join(sorted({claim.model for claim in claims}))
        raise JobError(
            f"{target} holds {num} of these photos restored by another job ({names}, or other "
            "options or another source); together they would be a mixture: use another target, "
            "or replace them with --overwrite"
        )
    for claim in claims:
        say(f"replacing {claim.rows.num_rows} photos restored by {claim.model}")
        claim.release()


def settled(round_: Round, items: pa.Table, target: str, *, verify: bool) -> pa.Table:
    """Return the receipts of what need not be done again; say what of them could not be read."""
    parts = round_.parts
    known = parts.merge()
    for uri in parts.damaged:
        say(f"warning: {uri} is no Parquet file; its photos are restored again")
    if not known.num_rows:
        return known
    found = receipts.settled(known, items, listing(target))
    if verify:
        good = receipts.intact(found, target)
        say(f"verified {good.num_rows} of {found.num_rows} finished photos")
        return good
    return found


def listing(target: str) -> pa.Table:
    """Return what is below the target; a folder that is not there holds nothing."""
    if storage.is_remote(target) or storage.exists(target):
        return storage.list_table(target, images.SUFFIXES)
    return inventory.SCHEMA.empty_table()


def listed(job: RestoreJob) -> tuple[Inventory, str]:
    """Return the photos of the source, each with its name in the target, and the target folder.

    One photo may be given a name of its own. Raises JobError when there is no photo, or when the
    job would read what it writes.
    """
    found, target = inventory.take(job.source), storage.absolute(job.target)
    if not found.table.num_rows:
        raise JobError(
            f"no photos in {storage.absolute(job.source)}; put {', '.join(images.SUFFIXES)} files "
            "there or name another"
        )
    read, written = real(found.root), real(target)
    if found.is_file:
        if target.lower().endswith(images.SUFFIXES):
            target, name = target.rsplit("/", 1)
            found = inventory.renamed(found, name)
        if real(target) == read and found.table["key"][0] == found.table["target_key"][0]:
            raise JobError(f"{job.source} would be written over itself; use another target")
    elif written == read or written.startswith(f"{read}/"):
        raise JobError(
            f"target {target} lies in the source {found.root}: restored photos would be taken for "
            "new ones, or written over; use a folder beside it"
        )
    return found, target


def real(uri: str) -> str:
    """Return what a uri is in the end: links and `..` of a local path followed."""
    return uri if storage.is_remote(uri) else str(Path(uri).resolve())


def load(model: str | None, task: str | None = None) -> tuple[str, dict[str, bytes]]:
    """Return the name of the exact version and the files of its checkpoint, verified.

    What is neither named by itself nor by its task is the only champion.
    """
    with tempfile.TemporaryDirectory() as scratch:
        released = Path(scratch) / "released"
        if model and (folder := checkpoints.named(model)):
            checkpoint.release(checkpoints.fetch(folder, Path(scratch) / "copy"), released)
            sha256 = hashlib.sha256((released / checkpoint.MODEL).read_bytes()).hexdigest()
            name = f"{folder}@{sha256[:16]}"
        else:
            registry = Registry()
            version = chosen(registry, model, task)
            name = str(version)
            checkpoint.release(registry.download(version, Path(scratch)), released)
        return name, {path.name: path.read_bytes() for path in released.iterdir()}


def chosen(registry: Registry, model: str | None, task: str | None) -> Version:
    """Return the version that a model, a task or neither of them means now."""
    if model:
        return registry.resolve(model)
    return bundled.champion(task, registry) if task else only_champion(registry)


def only_champion(registry: Registry) -> Version:
    """Return the one champion there is. Raises JobError when there is none or a choice."""
    champions = registry.champions()
    if len(champions) == 1:
        return champions[0]
    names = ", ".join(f"{version.name}@{CHAMPION}" for version in champions)
    if names:
        raise JobError(f"there are several champions; choose one with --model: {names}")
    raise JobError(
        f"no model in {place.without_secret(registry.uri)} is a champion; use weights that come "
        f"with the package ({', '.join(f'--task {task}' for task in bundle.tasks())}), or name a "
        "version or a checkpoint folder with --model"
    )
