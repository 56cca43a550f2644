"""From folders or buckets to a manifest: list, pair, and read what is new or changed.

What was read is kept in Parquet parts beside the manifest until the manifest is written whole, so
that a run that was killed is continued by the same command.
"""

import dataclasses
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from pipelines import audit, images, manifest, storage
from pipelines.config import Folders
from pipelines.context import streaming
from pipelines.errors import ImageError, ManifestError, OldManifestError, OutageError, StorageError
from pipelines.manifest import SCHEMA, Manifest

ROWS_PER_TASK = 32
"""Rows that one task reads: enough to hide its start, few enough to spread."""

ROWS_AT_ONCE = 4
"""Rows of a task under way: a bucket answers late, and each holds a decoded image."""

TASKS_PER_STREAM = 1000
"""A stream of tens of thousands of tasks takes minutes to plan before it starts."""

PART_EVERY_S = 15.0
"""At most this much work is done again after a kill."""


@dataclass(frozen=True)
class Survey:
    """What listing alone tells: which rows are known already, and which images are to be read."""

    folders: Folders
    uri: str
    """Where the manifest is written."""
    known: pa.Table
    """Rows that stay as they are, and those that are bad by their names."""
    todo: pa.Table
    """Rows of images that are new or changed."""

    def inspect(self) -> Iterator[pa.Table]:
        """Yield rows as they are finished, in any order; parts keep them."""
        return keep(_inspected(self.folders, self.todo), self.folders, self.uri)

    def conclude(self, inspected: Iterable[pa.Table], holdout: float) -> Manifest:
        """Write the manifest and remove the parts. Raises ManifestError when rows got lost."""
        rows = pa.concat_tables([SCHEMA.empty_table(), *inspected])
        if rows.num_rows != self.todo.num_rows:
            raise ManifestError(
                f"{self.todo.num_rows} images were listed but {rows.num_rows} inspected; run again"
            )
        table = pa.concat_tables([self.known, rows]).combine_chunks().sort_by("key")
        made = _manifest(self.folders, manifest.with_split(table, holdout))
        manifest.write(made, self.uri)
        _remove_parts(self.uri)
        return made


def survey(folders: Folders, uri: str) -> Survey:
    """List everything and find out what has to be read for the manifest at `uri`.

    Raises ManifestError when there is nothing to index, or something else is at `uri`.
    """
    listed = {root: _listed(root) for root in dict.fromkeys((folders.root, *folders.lq_roots))}
    gt, *views = (listed[root] for root in (folders.root, *folders.lq_roots))
    root, *lq_roots = (_folder(root, listed[root]) for root in (folders.root, *folders.lq_roots))
    folders = dataclasses.replace(folders, root=root, lq_roots=tuple(lq_roots))
    rows, bad = audit.pair(folders, gt, views)
    earlier = [*_parts(folders, uri), *_previous(folders, uri)]
    kept, fresh = _unchanged(rows, pa.concat_tables([SCHEMA.empty_table(), *earlier]))
    return Survey(folders, uri, pa.concat_tables([kept, bad]), rows.filter(fresh))


def index(folders: Folders, uri: str, *, holdout: float) -> Manifest:
    """Write the manifest of a source at `uri` and return it; only new or changed images are read.

    `holdout` is the fraction of the images to keep out of training.
    """
    found = survey(folders, uri)
    return found.conclude(found.inspect(), holdout)


def _listed(root: str) -> pa.Table:
    found = storage.list_table(root, images.SUFFIXES)
    if not found.num_rows:
        raise ManifestError(
            f"no photos in {root}; put {', '.join(images.SUFFIXES)} files there or name another"
        )
    return found


def _folder(root: str, listed: pa.Table) -> str:
    return storage.folder_of(root, listed["key"].slice(0, 2).to_pylist())


def _manifest(folders: Folders, table: pa.Table) -> Manifest:
    return Manifest(folders.root, table, folders.lq_roots, folders.scale, folders.profile)


def _unchanged(rows: pa.Table, earlier: pa.Table) -> tuple[pa.Table, Any]:
    """Return the earlier rows of what did not change, and a mask of the rows that did."""
    earlier = earlier.filter(pc.not_equal(earlier["etag"], "")).combine_chunks()
    found = earlier.take(pc.index_in(rows["key"], value_set=earlier["key"]))
    same = np.ones(rows.num_rows, bool)
    for name in ("etag", "lq_keys", "lq_etags"):
        now, then = rows[name], found[name]
        if name != "etag":
            now, then = (pc.binary_join(lists, "\n") for lists in (now, then))
        same &= np.asarray(pc.fill_null(pc.equal(now, then), fill_value=False))
    return found.filter(pa.array(same)), pa.array(~same)


def _previous(folders: Folders, uri: str) -> Iterator[pa.Table]:
    """Yield the rows of a manifest of the same places, if there is one."""
    if storage.exists(uri):
        # Written by another version: nothing of it can be kept, and it is written over.
        with suppress(OldManifestError):
            made = manifest.read(uri)
            if _manifest(folders, made.table) == made:
                yield made.table


def _parts(folders: Folders, uri: str) -> Iterator[pa.Table]:
    """Yield the rows of the parts of the same places, the newest first."""
    for part in reversed(_part_uris(uri)):
        yield from _previous(folders, part)


def _part_uris(uri: str) -> list[str]:
    folder = f"{uri}.parts"
    if not storage.exists(folder):
        return []
    return [storage.join(folder, part.key) for part in storage.list_entries(folder, (".parquet",))]


def keep(tables: Iterable[pa.Table], folders: Folders, uri: str) -> Iterator[pa.Table]:
    """Pass rows on, writing a part now and then and at the end, come what may."""
    waiting: list[pa.Table] = []
    written_at = time.monotonic()
    try:
        for rows in tables:
            waiting.append(rows)
            if time.monotonic() - written_at > PART_EVERY_S:
                _write_part(waiting, folders, uri)
                waiting, written_at = [], time.monotonic()
            yield rows
    finally:
        if waiting:
            _write_part(waiting, folders, uri)


def _write_part(tables: list[pa.Table], folders: Folders, uri: str) -> None:
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
    rows = _manifest(folders, pa.concat_tables(tables))
    manifest.write(rows, storage.join(f"{uri}.parts", name))


def _remove_parts(uri: str) -> None:
    for part in _part_uris(uri):
        storage.delete(part)
    if not storage.is_remote(uri):
        # Another run may have a part of its own there.
        with suppress(OSError):
            Path(f"{uri}.parts").rmdir()


def _inspected(folders: Folders, rows: pa.Table) -> Iterator[pa.Table]:
    step = ROWS_PER_TASK * TASKS_PER_STREAM
    for start in range(0, rows.num_rows, step):
        some = rows.slice(start, step)
        num_tasks = -(-some.num_rows // ROWS_PER_TASK)
        with streaming():
            # One object for all: putting a block for each task takes seconds before the first.
            task = _Task(Inspect(folders), ray.put(some))
            stream = ray.data.range(num_tasks, override_num_blocks=num_tasks).map_batches(
                task, batch_format="pyarrow", batch_size=None
            )
            yield from stream.iter_batches(batch_size=None, batch_format="pyarrow")


@dataclass(frozen=True)
class _Task:
    """Inspects the rows whose place in line it is given."""

    inspect: "Inspect"
    rows: Any
    """Reference to the table."""

    def __call__(self, places: pa.Table) -> pa.Table:
        rows: pa.Table = ray.get(self.rows)
        starts = (place * ROWS_PER_TASK for place in places["id"].to_pylist())
        return pa.concat_tables(
            [self.inspect(rows.slice(start, ROWS_PER_TASK)) for start in starts]
        )


@dataclass(frozen=True)
class Inspect:
    """Decode the images of listed rows: only that finds truncated files."""

    folders: Folders

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return the rows filled in; a bad image is a row with its reason."""
        cv2.setNumThreads(0)  # the stream runs one task per core
        with ThreadPoolExecutor(ROWS_AT_ONCE) as pool:
            return pa.Table.from_pylist(list(pool.map(self.row, rows.to_pylist())), schema=SCHEMA)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return one row filled in: the size of gt, and whether each lq fits to it."""
        bad = row | {"status": "bad"}
        gt, reason = self._look(self.folders.root, row["key"])
        if gt is None:
            return bad | reason
        row = row | gt | {"status": "ok"}
        for root, key in zip(self.folders.lq_roots, row["lq_keys"], strict=True):
            lq, reason = self._look(root, key)
            if lq is None:
                text = {"kind": f"lq {reason['kind']}", "reason": f"lq {key}: {reason['reason']}"}
                return bad | reason | text
            if misfit := self._misfit(gt, lq):
                return bad | gt | {"kind": "sizes differ", "reason": f"lq {key}: {misfit}"}
            row["bits"] = max(row["bits"], lq["bits"])
        return row

    def _look(self, root: str, key: str) -> tuple[dict[str, int] | None, dict[str, str]]:
        """Return height, width, channels and bits of an image, or what is bad about it."""
        try:
            data = storage.get(storage.join(root, key))
            pixels = images.decode(data, self.folders.profile).pixels
        except ImageError as error:
            return None, {"kind": error.kind, "reason": str(error)}
        except OutageError:
            raise  # says nothing about the photo
        except StorageError as error:
            # Without an etag the next run looks again.
            return None, {"kind": "unreadable", "reason": str(error), "etag": ""}
        facts = dict(zip(("height", "width", "channels"), pixels.shape, strict=True))
        return facts | {"bits": 8 * pixels.dtype.itemsize}, {}

    def _misfit(self, gt: dict[str, int], lq: dict[str, int]) -> str:
        """Return what is wrong with the size of an lq, or nothing."""
        scale = self.folders.scale
        if all(lq[side] * scale == gt[side] for side in ("height", "width")):
            return ""
        return (
            f"{lq['width']} x {lq['height']} pixels and gt {gt['width']} x {gt['height']}, which "
            f"is not {scale} times as much; check --scale or cut them to fit"
        )
