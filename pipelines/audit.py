"""The audit of captured pairs: which lq was taken beside which gt, found out from names alone.

Two images belong together when their keys below their roots are the same but for the suffix, after
the rule of the source changed the key of the gt: `("_GT_", "_NOISY_")` pairs `1/a_GT_1.png` with
`1/a_NOISY_1.tif`. What has no partner, or more than one, is a row with its reason.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Folders
from pipelines.manifest import CHUNK_ROWS, complete

WITHOUT_LQ, WITHOUT_GT, DUPLICATE = "without lq", "lq without gt", "duplicate"
"""Kinds of rows that are bad by their names."""


def pair(folders: Folders, gt: pa.Table, views: list[pa.Table]) -> tuple[pa.Table, pa.Table]:
    """Return rows of the manifest's schema: pairs yet to be read, and what cannot be paired.

    `gt` and each of `views` are listings {key, num_bytes, etag}. What cannot be paired has no etag,
    so that the next run looks again.
    """
    wanted = _wanted(folders, _stems(gt["key"]))
    if folders.root in folders.lq_roots:
        named = pc.not_equal(wanted, _stems(gt["key"]))
        gt, wanted = gt.filter(named), wanted.filter(named)
        views = [view.filter(pc.invert(pc.is_in(view["key"], gt["key"]))) for view in views]
    sides = [_beside(wanted, view) for view in views]
    columns = {name: _whole(gt[name]) for name in gt.column_names}
    columns |= {
        f"lq_{name}": _interleave([pc.fill_null(side[name], blank) for side, _ in sides])
        for name, blank in (("keys", ""), ("etags", ""), ("num_bytes", 0))
        if sides
    }
    rows = complete(gt.num_rows, columns)
    missing = np.zeros(gt.num_rows, bool)
    twice = _repeated(wanted) if sides else missing
    for side, repeated in sides:
        missing = missing | ~np.asarray(pc.is_valid(side["keys"]))
        twice = twice | repeated
    bad = [
        _bad(rows, wanted, twice, DUPLICATE, "is the name of several images; keep one of them"),
        _bad(
            rows, wanted, missing & ~twice, WITHOUT_LQ, "is not below lq; add it or check --match"
        ),
        *_extras(wanted, views),
    ]
    return rows.filter(pa.array(~missing & ~twice)), pa.concat_tables(bad)


def _stems(keys: Any) -> Any:
    """Return keys without their suffixes."""
    return pc.replace_substring_regex(_whole(keys), pattern=r"\.[^./]+$", replacement="")


def _wanted(folders: Folders, stems: Any) -> Any:
    """Return what the lq of each gt is called, without its suffix."""
    if folders.match is None:
        return stems
    pattern, replacement = re.compile(folders.match[0]), folders.match[1]
    chunks = (stems[i : i + CHUNK_ROWS].to_pylist() for i in range(0, len(stems), CHUNK_ROWS))
    names = [pa.array([pattern.sub(replacement, key) for key in chunk]) for chunk in chunks]
    return pa.concat_arrays([pa.array([], pa.string()), *names])


def _beside(wanted: Any, view: pa.Table) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Return the lq of each gt, null where there is none, and whether there are several."""
    stems = _stems(view["key"])
    places = pc.index_in(wanted, value_set=stems)
    names = {"keys": "key", "etags": "etag", "num_bytes": "num_bytes"}
    found = {name: _whole(view[listed]).take(places) for name, listed in names.items()}
    several = pc.fill_null(pa.array(_repeated(stems)).take(places), fill_value=False)
    return found, np.asarray(several)


def _extras(wanted: Any, views: list[pa.Table]) -> Iterator[pa.Table]:
    for place, view in enumerate(views):
        stems = _stems(view["key"])
        alone = pc.invert(pc.is_in(stems, value_set=wanted))
        lq, stems = view.filter(alone), stems.filter(alone)
        blank = pa.repeat("", lq.num_rows)
        keys = [_whole(lq["key"]) if place == i else blank for i in range(len(views))]
        rows = complete(lq.num_rows, {"lq_keys": _interleave(keys)})
        everything = np.ones(lq.num_rows, bool)
        yield _bad(rows, stems, everything, WITHOUT_GT, "has no gt; add it or check --match")


def _bad(rows: pa.Table, names: Any, which: Any, kind: str, reason: str) -> pa.Table:
    mask = pa.array(which)
    rows = rows.filter(mask)
    texts = {
        "etag": "",
        "status": "bad",
        "kind": kind,
        "reason": pc.binary_join_element_wise(names.filter(mask), reason, " "),
    }
    columns = {name: rows[name] for name in rows.column_names}
    for name, text in texts.items():
        columns[name] = pa.repeat(text, rows.num_rows) if isinstance(text, str) else text
    return complete(rows.num_rows, columns)


def _repeated(names: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell for each name whether it stands there more than once."""
    codes = np.asarray(names.dictionary_encode().indices)
    several: np.ndarray[Any, np.dtype[np.bool_]] = np.bincount(codes, minlength=1)[codes] > 1
    return several


def _interleave(columns: list[Any]) -> Any:
    """Return lists: the n-th holds the n-th value of each column."""
    num, rows = len(columns), len(columns[0])
    order = np.arange(num * rows).reshape(num, rows).T.ravel()
    offsets = pa.array(np.arange(0, num * rows + 1, num, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays(columns).take(pa.array(order)))


def _whole(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays([pa.array([], column.type), *column.chunks])
    return column
