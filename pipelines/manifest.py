"""The manifest: one row per image of a folder or bucket, good or bad, as a Parquet table.

An image that cannot be used is a row with its reason, never a crash. Everything here works on
columns: a manifest may have millions of rows.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.config import Profile
from pipelines.errors import ManifestError, OldManifestError

SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # below the root; empty for an lq without gt
        ("etag", pa.string()),  # changes whenever the bytes change; empty: look again
        ("num_bytes", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("channels", pa.int8()),  # 1 grey, 3 RGB; alpha is not counted
        ("bits", pa.int8()),  # per sample, 8 or 16; of a pair the deeper of its images
        ("split", pa.string()),  # "train" or "held_out"
        ("status", pa.string()),  # "ok" or "bad"
        ("kind", pa.string()),  # what is bad in a word or two, else empty
        ("reason", pa.string()),  # why it is bad, else empty
        ("lq_keys", pa.list_(pa.string())),  # one below each lq root; none where lq is computed
        ("lq_etags", pa.list_(pa.string())),
        ("lq_num_bytes", pa.list_(pa.int64())),
        ("shard", pa.string()),  # file that holds the bytes too, else empty
        ("offset", pa.int64()),  # of the first byte in the shard
        ("shard_bytes", pa.int64()),  # how many there
    ]
)
NOT_SAMPLES = ("kind", "reason", "shard", "offset", "shard_bytes")
"""Columns that change no sample: shards hold the same pixels."""
CHUNK_ROWS = 65536
"""Rows whose values exist as Python's or as copies at a time."""


@dataclass(frozen=True)
class Manifest:
    """The images below a root, and below other roots the lq images taken beside them."""

    root: str
    """uri of the folder or bucket."""
    table: pa.Table
    """Rows of `SCHEMA`, sorted by key."""
    lq_roots: tuple[str, ...] = ()
    """uri of the lq images of each view; none where lq is computed."""
    scale: int = 1
    """Side of gt over side of lq."""
    profile: Profile = "keep"
    """What becomes of embedded colour profiles wherever these images are decoded."""

    @property
    def captured(self) -> bool:
        """Tell whether lq is read instead of computed."""
        return bool(self.lq_roots)

    def usable(self, split: str, *, min_px: int = 1) -> pa.Table:
        """Return the good rows of a split whose sides are both at least `min_px` pixels."""
        shorter_side = pc.min_element_wise(self.table["height"], self.table["width"])
        wanted = pc.and_(
            pc.and_(pc.equal(self.table["status"], "ok"), pc.equal(self.table["split"], split)),
            pc.greater_equal(shorter_side, min_px),
        )
        return self.table.filter(wanted)

    def bad(self) -> pa.Table:
        """Return the rows that cannot be used, each with its reason."""
        return self.table.filter(pc.not_equal(self.table["status"], "ok"))

    def digest(self) -> str:
        """Return a sha256 that changes with anything that could change a sample."""
        facts = f"{len(self.lq_roots)} {self.scale} {self.profile}\n"
        digest = hashlib.sha256(facts.encode())
        for name in SCHEMA.names:
            if name not in NOT_SAMPLES:
                for start in range(0, self.table.num_rows, CHUNK_ROWS):
                    rows = self.table[name].slice(start, CHUNK_ROWS).combine_chunks()
                    _feed(digest.update, rows)
        return digest.hexdigest()


def _feed(update: Any, rows: Any) -> None:
    """Pass on what a column holds, the same however it is laid out in memory."""
    if isinstance(rows, pa.ChunkedArray):
        rows = pa.concat_arrays(rows.chunks) if rows.num_chunks else pa.array([], rows.type)
    if pa.types.is_list(rows.type):
        lengths = pc.fill_null(pc.list_value_length(rows), 0)
        update(np.asarray(lengths, np.int64).tobytes())
        _feed(update, pc.list_flatten(rows))
    elif pa.types.is_string(rows.type):
        lengths = pc.fill_null(pc.binary_length(rows), 0)
        update(np.asarray(lengths, np.int64).tobytes())
        update("".join(value or "" for value in rows.to_pylist()).encode())
    else:
        update(np.asarray(pc.fill_null(rows, 0), np.int64).tobytes())


def complete(num_rows: int, columns: dict[str, Any]) -> pa.Table:
    """Return rows of `SCHEMA`; columns that are not given are empty texts, zeros, empty lists."""
    made = [
        columns[field.name] if field.name in columns else _blank(field.type, num_rows)
        for field in SCHEMA
    ]
    return pa.table(made, schema=SCHEMA)


def _blank(kind: Any, num_rows: int) -> Any:
    if pa.types.is_list(kind):
        offsets = pa.array(np.zeros(num_rows + 1, np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array([], kind.value_type))
    return pa.repeat(pa.scalar("" if pa.types.is_string(kind) else 0, kind), num_rows)


def write(manifest: Manifest, uri: str) -> None:
    """Store a manifest, whole or not at all."""
    facts = {"root": manifest.root, "scale": str(manifest.scale), "profile": manifest.profile}
    facts["lq_roots"] = json.dumps(manifest.lq_roots)
    buffer = io.BytesIO()
    pq.write_table(manifest.table.replace_schema_metadata(facts), buffer)
    storage.put(uri, buffer.getvalue())


def read(uri: str) -> Manifest:
    """Read a manifest. Raises ManifestError when there is none or it is none."""
    if not storage.exists(uri):
        raise ManifestError(f"no manifest at {uri}; write one with: laformer prepare PHOTOS")
    try:
        table = pq.read_table(io.BytesIO(storage.get(uri)))
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{uri} is not a manifest ({error}); name another file, or remove it and run "
            "laformer prepare"
        ) from error
    facts = table.schema.metadata or {}
    if b"root" not in facts:
        raise ManifestError(
            f"{uri} is Parquet but not a manifest; name another file, or remove it and run "
            "laformer prepare"
        )
    if not table.schema.equals(SCHEMA) or b"profile" not in facts:
        raise OldManifestError(
            f"{uri} has the columns of another version; run laformer prepare again"
        )
    try:
        return Manifest(
            root=facts[b"root"].decode(),
            table=table.replace_schema_metadata(),
            lq_roots=tuple(json.loads(facts[b"lq_roots"])),
            scale=int(facts[b"scale"]),
            profile="srgb" if facts[b"profile"] == b"srgb" else "keep",
        )
    except (KeyError, ValueError) as error:
        raise ManifestError(
            f"{uri} has damaged facts ({error}); remove it and run laformer prepare"
        ) from error


def held_out(keys: Any, holdout: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell for each key whether it is kept out of training, by a hash of it alone.

    A photo keeps its side when others are added, as long as the fraction stays and neither side
    would be empty. With two images or more both sides get at least one.
    """
    places = np.empty(len(keys), np.float64)
    for start in range(0, len(keys), CHUNK_ROWS):
        chunk = keys[start : start + CHUNK_ROWS].to_pylist()
        hashes = b"".join(hashlib.sha256(key.encode()).digest()[:8] for key in chunk)
        places[start : start + len(chunk)] = (np.frombuffer(hashes, ">u8") >> 4) / 2.0**60
    sides: np.ndarray[Any, np.dtype[np.bool_]] = places < holdout
    if holdout and len(keys) > 1:
        if not sides.any():
            sides[places.argmin()] = True
        if sides.all():
            sides[places.argmax()] = False
    return sides


def with_split(table: pa.Table, holdout: float) -> pa.Table:
    """Return the table with the column `split` filled in; the bad rows count as training's."""
    good = np.asarray(pc.equal(table["status"], "ok"))
    sides = np.zeros(table.num_rows, bool)
    sides[good] = held_out(table["key"].filter(pa.array(good)), holdout)
    split = pc.if_else(pa.array(sides), "held_out", "train")
    return table.set_column(SCHEMA.get_field_index("split"), SCHEMA.field("split"), split)
