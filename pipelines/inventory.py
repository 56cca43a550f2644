"""What a restoration job is to read: a file, a folder, a bucket, a glob or a manifest, as a table.

A listing is all that is asked of storage, whatever the number of images.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import images, manifest, storage
from pipelines.errors import ManifestError
from pipelines.manifest import Manifest

SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # below the root
        ("target_key", pa.string()),  # below the target
        ("etag", pa.string()),  # changes whenever the bytes change
        ("num_bytes", pa.int64()),
        ("reason", pa.string()),  # why it is bad before it is read, else empty
    ]
)
MAGIC: Final = re.compile(r"[*?\[]")
"""Characters that make a glob of a path that names nothing itself."""


@dataclass(frozen=True)
class Inventory:
    """The images of a source."""

    root: str
    """uri of what the keys are below."""
    table: pa.Table
    """Rows of `SCHEMA`, sorted by key."""
    is_file: bool = False
    """Whether the source is one image."""


def take(source: str) -> Inventory:
    """Return the images of a source; it may hold none.

    A manifest is a file that ends in .parquet. A path with `*`, `?` or `[` is a glob unless
    something has that very name: `*` and `?` match within a name, `**` any sub-folders, `[ab]` one
    of these characters.
    """
    uri = storage.absolute(source)
    if uri.lower().endswith(".parquet"):
        return of_manifest(manifest.read(uri))
    if MAGIC.search(uri) and not storage.exists(uri):
        root, pattern = split(uri)
        found = storage.list_table(root, images.SUFFIXES)
        wanted = pc.match_substring_regex(found["key"], pattern)
        return Inventory(root, _complete(found.filter(wanted)))
    found = storage.list_table(uri, images.SUFFIXES)
    root = storage.folder_of(uri, found["key"].slice(0, 2).to_pylist())
    return Inventory(root, _complete(found), is_file=root != uri)


def renamed(found: Inventory, name: str) -> Inventory:
    """Return one image under another name in the target."""
    place = SCHEMA.get_field_index("target_key")
    table = found.table.set_column(place, SCHEMA.field(place), pa.array([name]))
    return Inventory(found.root, table, is_file=True)


def split(uri: str) -> tuple[str, str]:
    r"""Return the folder of a glob that has no magic, and a regular expression of keys below it.

    >>> split("/photos/2024/**/*.jpg")
    ('/photos/2024', '^(?:[^/]+/)*[^/]*\\.jpg$')
    """
    head, _, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    folders, below = rest.split("/"), list[str]()
    while any(MAGIC.search(each) for each in folders):
        below.insert(0, folders.pop())
    root = "/".join(folders) or "/"
    expression = "".join(
        "(?:[^/]+/)*" if part == "**" else _expression(part) + "/" for part in below[:-1]
    )
    last = "(?:[^/]+/)*[^/]+" if below[-1] == "**" else _expression(below[-1])
    return (f"{head}://{root}" if head else root), f"^{expression}{last}$"


def _expression(part: str) -> str:
    """Return the regular expression of one name of a glob."""
    words = {"*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\[[^\]]+\]|.", part, re.DOTALL)
    return "".join(
        words.get(each, _choice(each) if len(each) > 1 else re.escape(each)) for each in tokens
    )


def _choice(token: str) -> str:
    inside = token[1:-1].replace("\\", r"\\")
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def of_manifest(catalogue: Manifest) -> Inventory:
    """Return the images of a manifest: of captured pairs the lq, else all.

    What the manifest found bad is bad, and so is what is gone or changed since: its rows name
    bytes. Raises ManifestError for pairs of two views, which are one input of two images.
    """
    if len(catalogue.lq_roots) > 1:
        raise ManifestError(
            f"a photo of this manifest has {len(catalogue.lq_roots)} views; restore a folder "
            "of single photos"
        )
    rows = catalogue.table
    if catalogue.captured:
        rows = rows.filter(pc.greater(pc.list_value_length(rows["lq_keys"]), 0))
        root = catalogue.lq_roots[0]
        columns = [pc.list_element(rows[f"lq_{name}"], 0) for name in ("keys", "etags")]
        key, etag, size = (*columns, pc.list_element(rows["lq_num_bytes"], 0))
    else:
        root, key, etag, size = catalogue.root, rows["key"], rows["etag"], rows["num_bytes"]
    there = storage.list_table(root, images.SUFFIXES)
    found = there["etag"].take(pc.index_in(key, value_set=there["key"].combine_chunks()))
    unknown = pc.or_(pc.equal(etag, ""), pc.fill_null(pc.equal(etag, found), fill_value=False))
    bad = pc.not_equal(rows["status"], "ok")
    reason = pc.case_when(
        pc.make_struct(bad, pc.is_null(found), pc.invert(unknown)),
        rows["reason"],
        "is no longer there; run laformer prepare again",
        "changed since laformer prepare; run it again",
        "",
    )
    table = pa.table([key, key, pc.coalesce(found, etag), size, reason], schema=SCHEMA)
    return Inventory(root, table.combine_chunks().sort_by("key"))


def _complete(found: Any) -> pa.Table:
    key, empty = found["key"], pa.repeat(pa.scalar(""), found.num_rows)
    return pa.table([key, key, found["etag"], found["num_bytes"], empty], schema=SCHEMA)
