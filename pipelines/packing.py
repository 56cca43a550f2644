"""Photos into shards: the same pixels, decoded several times as fast.

A task packs as many images as fill one shard and writes it whole under a name made of its bytes.
The manifest learns where images are now and then, so that a run that was killed goes on with those
that have no shard yet. A captured pair lies together: one read brings gt and lq.
"""

import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from pipelines import images, manifest, shards, storage
from pipelines.context import streaming
from pipelines.errors import ImageError, OutageError, StorageError
from pipelines.manifest import Manifest

WRITE_EVERY_S = 60.0
"""Seconds between two manifests that name what was packed so far."""
SHARD_BYTES: Final = 2**26
"""About the size of a shard: large enough for a bucket, small enough for the memory of a task."""
STORED: Final = 0.6
"""About how much of its raw bytes a photo takes in a shard."""
PLACE: Final = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),  # uri; empty where the image could not be packed
        ("offset", pa.int64()),
        ("shard_bytes", pa.int64()),
    ]
)


def waiting(catalogue: Manifest, folder: str) -> pa.Table:
    """Return the training rows that have no shard below `folder` yet."""
    rows = catalogue.usable("train")
    there = pc.starts_with(rows["shard"], pattern=f"{storage.absolute(folder)}/")
    return rows.filter(pc.invert(there))


def pack(catalogue: Manifest, folder: str, uri: str) -> Iterator[int]:
    """Pack what waits, keep the manifest at `uri` up to date, and yield how many rows are done."""
    rows, done = waiting(catalogue, folder), 0
    found, written_at = [PLACE.empty_table()], time.monotonic()
    for places in _packed(catalogue, rows, storage.absolute(folder)):
        found.append(places)
        done += places.num_rows
        if time.monotonic() - written_at > WRITE_EVERY_S:
            catalogue = placed(catalogue, pa.concat_tables(found), uri)
            found, written_at = [PLACE.empty_table()], time.monotonic()
        yield done
    placed(catalogue, pa.concat_tables(found), uri)


def _packed(catalogue: Manifest, rows: pa.Table, folder: str) -> Iterator[pa.Table]:
    """Yield the places of images as shards are written, in any order."""
    if not rows.num_rows:
        return
    pixels = pc.multiply(pc.cast(rows["height"], pa.int64()), rows["width"])
    samples = np.asarray(pixels) * (3 + 3 * len(catalogue.lq_roots) / catalogue.scale**2)
    stored = STORED * samples * np.asarray(rows["bits"]) / 8
    numbers = (np.cumsum(stored) // SHARD_BYTES).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), rows.num_rows]
    task = Packer(replace(catalogue, table=manifest.SCHEMA.empty_table()), folder)
    spans = [{"start": start, "stop": stop} for start, stop in itertools.pairwise(edges)]
    with streaming():
        stream = ray.data.from_items(spans, override_num_blocks=len(spans)).map_batches(
            _Task(task, ray.put(rows)), batch_format="pyarrow", batch_size=None
        )
        yield from stream.iter_batches(batch_size=None, batch_format="pyarrow")


@dataclass(frozen=True)
class _Task:
    """Packs the rows whose place in line it is given."""

    pack: "Packer"
    rows: Any
    """Reference to the table."""

    def __call__(self, spans: pa.Table) -> pa.Table:
        rows: pa.Table = ray.get(self.rows)
        return pa.concat_tables(
            self.pack(rows.slice(span["start"], span["stop"] - span["start"]))
            for span in spans.to_pylist()
        )


@dataclass(frozen=True)
class Packer:
    """Writes one shard."""

    catalogue: Manifest
    """Where images are and how they are decoded; its rows are not needed."""
    folder: str
    """uri of the folder of shards."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return where each image is; what cannot be decoded any more is without a shard."""
        cv2.setNumThreads(0)  # the stream runs one task per core
        batches: list[pa.RecordBatch] = []
        ends: dict[str, tuple[int, int]] = {}
        for row in rows.to_pylist():
            try:
                packed = self._pack(row)
            except OutageError:
                raise
            except (ImageError, StorageError):
                continue  # training stands another in, counts it and says so
            ends[row["key"]] = (len(batches), len(batches) + len(packed))
            batches += packed
        places = {}
        if batches:
            data, messages = shards.bind(batches)
            uri = storage.join(self.folder, f"{hashlib.sha256(data).hexdigest()}.arrow")
            storage.put(uri, data)
            places = {key: _place(uri, messages[a:b]) for key, (a, b) in ends.items()}
        nowhere = {"shard": "", "offset": 0, "shard_bytes": 0}
        found = [{"key": key} | places.get(key, nowhere) for key in rows["key"].to_pylist()]
        return pa.Table.from_pylist(found, PLACE)

    def _pack(self, row: dict[str, Any]) -> list[pa.RecordBatch]:
        roots = (self.catalogue.root, *self.catalogue.lq_roots)
        keys = (row["key"], *row["lq_keys"])
        files = (
            storage.get(storage.join(root, key)) for root, key in zip(roots, keys, strict=True)
        )
        decoded = (images.decode(file, self.catalogue.profile).pixels for file in files)
        return [shards.pack(key, pixels) for key, pixels in zip(keys, decoded, strict=True)]


def _place(uri: str, messages: list[tuple[int, int]]) -> dict[str, Any]:
    first, (last, num_bytes) = messages[0][0], messages[-1]
    return {"shard": uri, "offset": first, "shard_bytes": last + num_bytes - first}


def placed(catalogue: Manifest, places: pa.Table, uri: str) -> Manifest:
    """Write the manifest with the places of some rows and return it."""
    table = catalogue.table
    order = pc.index_in(table["key"], value_set=places["key"].combine_chunks())
    for name in ("shard", "offset", "shard_bytes"):
        column = pc.coalesce(places[name].combine_chunks().take(order), table[name])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    made = replace(catalogue, table=table)
    manifest.write(made, uri)
    return made
