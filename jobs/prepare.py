"""laformer prepare: photos in, a manifest out."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["prepare", *sys.argv[1:]]))

from collections.abc import Iterable, Iterator
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from jobs import place
from jobs.cluster import connected
from jobs.config import PrepareJob
from jobs.console import Bar, bar, say, working
from jobs.errors import JobError
from pipelines import indexing, manifest, packing, storage
from pipelines.config import Folders
from pipelines.errors import DataError
from pipelines.manifest import Manifest

SHOWN_BAD = 10
"""Bad photos of a kind named on the terminal; the manifest names all."""


def run(job: PrepareJob) -> Manifest:
    """Write the manifest and say what is in it; bad photos are rows with their reason.

    Raises JobError when no photo is usable.
    """
    folders = Folders(
        root=storage.absolute(job.photos),
        lq_roots=tuple(map(storage.absolute, job.lq)),
        match=job.match,
        scale=job.scale,
        profile=job.profile,
    )
    uri = place.manifest_uri(job.manifest)
    tell_replaced(folders, uri)
    with working(f"listing {', '.join((folders.root, *folders.lq_roots))}"):
        survey = indexing.survey(folders, uri)
    if survey.todo.num_rows:
        with connected() as cluster:
            cluster.require_shared(folders.root, *folders.lq_roots)
            with bar("reading photos", survey.todo.num_rows) as progress:
                catalogue = survey.conclude(counted(survey.inspect(), progress), job.holdout)
    else:
        catalogue = survey.conclude((), job.holdout)
    account(catalogue, uri)
    return tiled(catalogue, job.tiles, uri) if job.tiles else catalogue


def tiled(catalogue: Manifest, folder: str, uri: str) -> Manifest:
    """Pack the training photos that have no shard below `folder` yet."""
    num_waiting = packing.waiting(catalogue, folder).num_rows
    if num_waiting:
        with connected() as cluster, bar("packing tiles", num_waiting) as progress:
            cluster.require_shared(folder)
            for done in packing.pack(catalogue, folder, uri):
                progress.update(done)
        catalogue = manifest.read(uri)
    left = packing.waiting(catalogue, folder).num_rows
    say(f"tiles of {num_waiting - left} more photos: {folder}")
    if left:
        say(f"  {left} could not be read again and stay as they are")
    return catalogue


def tell_replaced(folders: Folders, uri: str) -> None:
    """Say when a manifest of other photos is written over."""
    with suppress(DataError):
        earlier = manifest.read(uri)
        if earlier.root != folders.root:
            say(f"note: {uri} is of {earlier.root} so far and is written anew")


def counted(tables: Iterable[pa.Table], progress: Bar) -> Iterator[pa.Table]:
    """Pass rows on and show how many there were, and how many of them are bad."""
    done = num_bad = 0
    for rows in tables:
        done += rows.num_rows
        num_bad += pc.sum(pc.equal(rows["status"], "bad")).as_py()
        progress.update(done, f"({num_bad} bad)" if num_bad else "")
        yield rows


def account(catalogue: Manifest, uri: str) -> None:
    """Say what can be used, and of what cannot how much of each kind, with the first names.

    Raises JobError when nothing can be used.
    """
    bad, things = catalogue.bad(), "pairs" if catalogue.captured else "photos"
    num_train, num_held_out = (catalogue.usable(side).num_rows for side in ("train", "held_out"))
    say(f"{num_train} {things} to train on, {num_held_out} held out, {bad.num_rows} bad: {uri}")
    for kind, num in sorted(kinds(bad).items()):
        say(f"  bad, {kind}: {num}")
        for row in bad.filter(pc.equal(bad["kind"], kind)).slice(0, SHOWN_BAD).to_pylist():
            say(f"    {row['key'] or ''.join(row['lq_keys'])}: {row['reason']}")
        if num > SHOWN_BAD:
            say(f"    and {num - SHOWN_BAD} more: column `reason` of the manifest")
    if not num_train + num_held_out:
        raise JobError(
            f"none of the {bad.num_rows} {things} of {catalogue.root} can be used; see the reasons"
        )


def kinds(bad: pa.Table) -> dict[str, int]:
    """Return how many rows there are of each kind."""
    counts = pc.value_counts(bad["kind"])
    return {str(count["values"]): int(count["counts"]) for count in counts.to_pylist()}
