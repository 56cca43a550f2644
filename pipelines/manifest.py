"""The manifest: one row per image of a folder or bucket, good or bad, as a Parquet table.

An image that cannot be decoded is a row with its reason, never a crash. Images are kept out of
training by a hash of their key: a photo keeps its side when others are added, as long as the
fraction stays and neither side would be empty.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from pipelines import images, storage
from pipelines.context import streaming
from pipelines.errors import ImageError, ManifestError, OutageError, StorageError
from pipelines.pages import Entry

SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # below the root
        ("etag", pa.string()),  # changes whenever the bytes change
        ("num_bytes", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("channels", pa.int8()),  # 1 grey, 3 RGB; alpha is not counted
        ("bits", pa.int8()),  # per sample: 8 or 16
        ("split", pa.string()),  # "train" or "held_out"
        ("status", pa.string()),  # "ok" or "bad"
        ("reason", pa.string()),  # why it is bad, else empty
    ]
)
ROWS_PER_TASK = 32
"""Images that one task reads: enough to hide its start, few enough to spread."""


@dataclass(frozen=True)
class Manifest:
    """The images below a root."""

    root: str
    """uri of the folder or bucket."""
    table: pa.Table
    """Rows of `SCHEMA`, sorted by key."""
    lq_roots: tuple[str, ...] = ()
    scale: int = 1

    @property
    def captured(self) -> bool:
        """Tell whether there is an lq for each gt."""
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
        """Return a sha256 that changes with any key, any bytes or any split."""
        digest = hashlib.sha256()
        for row in self.table.select(["key", "etag", "split", "status"]).to_pylist():
            digest.update("\0".join(row.values()).encode() + b"\n")
        return digest.hexdigest()


def write(manifest: Manifest, uri: str) -> None:
    """Store a manifest, whole or not at all."""
    table = manifest.table.replace_schema_metadata({"root": manifest.root})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.put(uri, buffer.getvalue())


def read(uri: str) -> Manifest:
    """Read a manifest. Raises ManifestError when there is none or it is none."""
    if not storage.exists(uri):
        raise ManifestError(f"no manifest at {uri}; write one with: laformer prepare PHOTOS")
    try:
        table = pq.read_table(io.BytesIO(storage.get(uri)))
    except pa.ArrowInvalid as error:
        raise ManifestError(f"{uri} is not a manifest ({error}); run laformer prepare") from error
    root = (table.schema.metadata or {}).get(b"root")
    if root is None or not table.schema.equals(SCHEMA):
        raise ManifestError(f"{uri} is Parquet but not a manifest; run laformer prepare again")
    return Manifest(root=root.decode(), table=table.replace_schema_metadata())


def index(root: str, *, holdout: float, previous: Manifest | None = None) -> Manifest:
    """List a folder or bucket and decode every new or changed image once.

    Rows of `previous` whose bytes are unchanged are kept. `holdout` is the fraction of the images
    to keep out of training. Raises ManifestError when there is nothing to index.
    """
    entries = storage.list_entries(root, images.SUFFIXES)
    if not entries:
        raise ManifestError(
            f"no photos in {root}; put {', '.join(images.SUFFIXES)} files there or name another"
        )
    root = storage.folder_of(root, entries)
    known = {} if previous is None else {r["key"]: r for r in previous.table.to_pylist()}
    rows = [known[e.key] for e in entries if known.get(e.key, {}).get("etag") == e.etag]
    kept = {row["key"] for row in rows}
    rows += _inspect_all(root, [entry for entry in entries if entry.key not in kept])
    sides = split(sorted(row["key"] for row in rows if row["status"] == "ok"), holdout)
    rows = [row | {"split": sides.get(row["key"], "train")} for row in rows]
    rows.sort(key=lambda row: row["key"])
    return Manifest(root=root, table=pa.Table.from_pylist(rows, schema=SCHEMA))


def split(keys: Iterable[str], holdout: float) -> dict[str, str]:
    """Give each key its side. With two images or more both sides get at least one."""
    places = sorted(
        (int(hashlib.sha256(k.encode()).hexdigest()[:15], 16) / 16**15, k) for k in keys
    )
    num_held_out = sum(place < holdout for place, _ in places)
    if holdout and len(places) > 1:
        num_held_out = min(max(num_held_out, 1), len(places) - 1)
    return {
        key: "held_out" if rank < num_held_out else "train" for rank, (_, key) in enumerate(places)
    }


def _inspect_all(root: str, entries: list[Entry]) -> list[dict[str, object]]:
    if not entries:
        return []
    items = [asdict(entry) for entry in entries]
    num_blocks = -(-len(items) // ROWS_PER_TASK)
    with streaming():
        stream = ray.data.from_items(items, override_num_blocks=num_blocks).map(Inspect(root))
        rows = stream.take_all()
    if len(rows) != len(items):
        raise ManifestError(f"{len(items)} images were listed but {len(rows)} inspected; run again")
    return list(rows)


@dataclass(frozen=True)
class Inspect:
    """Turn a listed entry into a manifest row by decoding it: only that finds truncated files."""

    root: str

    def __call__(self, entry: dict[str, object]) -> dict[str, object]:
        """Return the row; a bad image is a row with its reason."""
        row: dict[str, object] = {
            **entry,
            "height": 0,
            "width": 0,
            "channels": 0,
            "bits": 0,
            "split": "",
            "status": "ok",
            "reason": "",
        }
        try:
            photo = images.decode(storage.get(storage.join(self.root, str(entry["key"]))))
        except ImageError as error:
            return row | {"status": "bad", "reason": str(error)}
        except OutageError:
            raise  # says nothing about the photo
        except StorageError as error:
            # Without an etag the next run looks again.
            return row | {"status": "bad", "etag": "", "reason": str(error)}
        height, width, channels = photo.pixels.shape
        bits = 8 * photo.pixels.dtype.itemsize
        return row | {"height": height, "width": width, "channels": channels, "bits": bits}
