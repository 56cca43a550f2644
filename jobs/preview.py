"""laformer preview: what training will see of some photos, as one picture."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["preview", *sys.argv[1:]]))

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

from jobs.config import PreviewJob
from jobs.console import say
from jobs.errors import JobError
from pipelines import images, manifest, storage, tasks
from pipelines.errors import ImageError, OutageError, StorageError
from pipelines.preview import Picture, Sheet, contact_sheet
from pipelines.sources import Fetched, Files, Source, entries
from pipelines.tasks import Task

TABLE = ".parquet"

Named: TypeAlias = tuple[str, Callable[[], Fetched]]
"""The name of a photo, and what reads it."""


def run(job: PreviewJob) -> str:
    """Write the contact sheet and return its uri; photos that cannot be read are named."""
    task = tasks.find(job.task)
    if job.side_px < task.pairs.scale:
        raise JobError(f"side_px {job.side_px} is less than the scale; use {task.pairs.scale}")
    sheet = Sheet(task=task, samples=job.samples, side_px=job.side_px, seed=job.seed)
    is_table = job.photos.endswith(TABLE)
    fetch = from_manifest(job, task) if is_table else from_photos(job, task)
    rows: list[list[Picture]] = []
    for index, (name, read) in enumerate(fetch):
        try:
            rows.append(sheet.row(read(), index))
        except OutageError:
            raise
        except (ImageError, StorageError) as error:
            say(f"left out {name}: {error}")
        if len(rows) == job.rows:
            break
    if not rows:
        raise JobError(
            f"no photo of {job.photos} can be shown; name a folder of photos, or for a manifest a "
            f"--side-px below {job.side_px}"
        )
    target = storage.absolute(job.target or f"preview-{job.task}.png")
    storage.put(target, contact_sheet(rows))
    say(f"{task.title}: {len(rows)} photos: {target}")
    return target


def from_photos(job: PreviewJob, task: Task) -> Iterator[Named]:
    """Yield the photos of a folder or bucket."""
    root = storage.absolute(job.photos)
    found = storage.list_entries(root, images.SUFFIXES)
    root = storage.folder_of(root, [entry.key for entry in found])
    for entry in found:
        yield entry.key, partial(read_photo, storage.join(root, entry.key), task)


def read_photo(uri: str, task: Task) -> Fetched:
    """Read a photo whose lq will be made."""
    return Fetched(task.pairs, Files((storage.get(uri),)))


def from_manifest(job: PreviewJob, task: Task) -> Iterator[Named]:
    """Yield the training photos or pairs of a manifest."""
    uri = storage.absolute(job.photos)
    catalogue = manifest.read(uri)
    rows = entries(Source.of(uri, catalogue, task), job.side_px)
    for index, key in enumerate(rows.table["key"].to_pylist()):
        yield key, partial(rows.fetch, index)
