"""A table that grows while it may be killed: Parquet parts in a folder, each written whole.

Nothing is ever changed in place. A row counts from the moment its part is there; of rows with the
same key the newest counts. Parts are merged by writing the merged one whole and deleting the others
after that: whoever dies in between leaves rows twice, which says the same.
"""

import io
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage

AT_ONCE = 16
"""Parts that are read or deleted at the same time: a bucket answers late."""
DAMAGED = ".damaged"
"""Ends the name of a part that was set aside."""


@dataclass
class Parts:
    """The rows below a folder, by the newest of each key."""

    folder: str
    """uri; its sub-folders count too."""
    schema: pa.Schema
    """Columns that are read and written; what an older part lacks is empty or 0."""
    damaged: list[str] = field(default_factory=list)
    """uris of parts that could not be read and lie aside since."""

    def names(self) -> list[str]:
        """Return the parts below the folder, oldest first."""
        if not storage.is_remote(self.folder) and not storage.exists(self.folder):
            return []
        found: list[str] = storage.list_table(self.folder, (".parquet",))["key"].to_pylist()
        return sorted(found, key=_order)

    def write(self, table: pa.Table, after: str = "") -> str:
        """Store a part whole, beside and behind another one if that is named; return its name."""
        folder, separator, _ = after.rpartition("/")
        number = _number(after) + 1 if after else time.time_ns()
        name = f"{folder}{separator}part-{number:020d}-{uuid.uuid4().hex[:8]}.parquet"
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        storage.put(storage.join(self.folder, name), buffer.getvalue())
        return name

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """Return the newest row of each key; a part that is no table is set aside and named."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            tables = list(threads.map(self._table, self.names() if names is None else names))
        return newest(pa.concat_tables([self.schema.empty_table(), *tables]))

    def merge(self, names: Sequence[str] | None = None) -> pa.Table:
        """Make one part of several; return its rows."""
        names = self.names() if names is None else names
        rows = self.read(names)
        if len(names) > 1:
            self.replace(names, rows)
        return rows

    def replace(self, names: Sequence[str], rows: pa.Table) -> None:
        """Store rows in the place of parts: what is in both is never missing."""
        if rows.num_rows:
            # Its name keeps the place of these parts among those that others write meanwhile.
            self.write(rows, after=max(names, key=_order))
        self.delete(names)

    def delete(self, names: Sequence[str]) -> None:
        """Remove parts."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda n: storage.delete(storage.join(self.folder, n)), names))

    def _table(self, name: str) -> pa.Table:
        uri = storage.join(self.folder, name)
        data = storage.get(uri)
        try:
            return conform(pq.read_table(io.BytesIO(data)), self.schema)
        except (pa.ArrowException, OSError):
            storage.put(f"{uri}{DAMAGED}", data)
            storage.delete(uri)
            self.damaged.append(f"{uri}{DAMAGED}")
            return self.schema.empty_table()


def _order(name: str) -> str:
    return name.rpartition("/")[2]


def _number(name: str) -> int:
    digits = _order(name).removeprefix("part-")[:20]
    return int(digits) if digits.isdigit() else 0


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema; what is missing is an empty text or 0."""
    columns = [
        pc.fill_null(table[each.name].cast(each.type), _blank(each.type))
        if each.name in table.column_names
        else pa.chunked_array([pa.repeat(_blank(each.type), table.num_rows)])
        for each in schema
    ]
    return pa.table(columns, schema=schema)


def _blank(kind: Any) -> Any:
    return pa.scalar("" if pa.types.is_string(kind) else 0, kind)


def newest(table: pa.Table, key: str = "key") -> pa.Table:
    """Return the last row of each key, in the order of the rows."""
    if not table.num_rows:
        return table
    codes = np.asarray(table[key].combine_chunks().dictionary_encode().indices)
    last = np.empty(codes.max() + 1, np.int64)
    last[codes] = np.arange(len(codes))  # of equal indices the last one stays
    return table.take(pa.array(np.sort(last))).combine_chunks()
