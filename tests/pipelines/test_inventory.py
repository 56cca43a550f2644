"""What a restoration job reads: a file, a folder, a glob, a bucket or a manifest."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import images, inventory, manifest, storage
from pipelines.images import Photo
from pipelines.manifest import Manifest

NAMES = ("a.png", "b.JPG", "sub/c.png", "sub/deep/d.jpg", "odd[1].png", "notes.txt")


def fill(root):
    for name in NAMES:
        storage.put(f"{root}/{name}", b"bytes")
    return str(root)


def keys(source):
    return inventory.take(source).table["key"].to_pylist()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["a.png", "b.JPG", "odd[1].png", "sub/c.png", "sub/deep/d.jpg"]),
        ("/*.png", ["a.png", "odd[1].png"]),
        ("/**/*.png", ["a.png", "odd[1].png", "sub/c.png"]),
        ("/**", ["a.png", "b.JPG", "odd[1].png", "sub/c.png", "sub/deep/d.jpg"]),
        ("/*/*.png", ["sub/c.png"]),
        ("/[a-c].*", ["a.png", "b.JPG"]),
        ("/[!a].*", ["b.JPG"]),
        ("/?.png", ["a.png"]),
        ("/odd[1].png", ["odd[1].png"]),  # a file of that very name
        ("/s*/deep/d.jpg", ["sub/deep/d.jpg"]),
    ],
)
@pytest.mark.s3
def test_folders_and_globs_give_keys_below_what_is_fixed(tmp_path, s3, pattern, found):
    for root in (fill(tmp_path), fill(f"{s3}/inventory")):
        taken = inventory.take(f"{root}{pattern}")
        assert taken.table["key"].to_pylist() == found
        assert taken.table["target_key"].to_pylist() == found
        assert taken.root == root
        assert taken.is_file == (pattern == "/odd[1].png")


def test_a_glob_matches_whole_names(tmp_path):
    root, expression = inventory.split("/photos/2024/**/x*.png")
    assert root == "/photos/2024"
    assert re.match(expression, "a/b/xy.png")
    assert not re.match(expression, "a/yx.png")


def pictures(root, num):
    for i in range(num):
        data = images.encode(Photo(pixels=np.full((4, 4, 3), i, np.uint8)), ".png")
        storage.put(f"{root}/{i}.png", data)
    return storage.list_table(str(root), images.SUFFIXES)


def test_what_a_manifest_knows_is_compared_with_what_is_there(tmp_path):
    there = pictures(tmp_path / "p", 5)
    etags = there["etag"].to_pylist()
    columns = {
        "key": pa.array([*there["key"].to_pylist(), "gone.png"]),
        "etag": pa.array(["", *etags[1:], "x"]),
        "status": pa.array(["ok", "ok", "ok", "ok", "bad", "ok"]),
        "reason": pa.array(["", "", "", "", "too dark", ""]),
    }
    uri = str(tmp_path / "m.parquet")
    manifest.write(Manifest(str(tmp_path / "p"), manifest.complete(6, columns)), uri)
    Path(tmp_path / "p" / "3.png").write_bytes(b"other bytes")
    taken = inventory.take(uri)
    assert taken.root == str(tmp_path / "p")
    reasons = dict(zip(*(taken.table[n].to_pylist() for n in ("key", "reason")), strict=True))
    assert reasons == {
        "0.png": "",
        "1.png": "",
        "2.png": "",
        "3.png": "changed since laformer prepare; run it again",
        "4.png": "too dark",
        "gone.png": "is no longer there; run laformer prepare again",
    }
    assert taken.table["etag"].to_pylist()[0] == etags[0]


def test_of_captured_pairs_the_lq_is_restored(tmp_path):
    there = pictures(tmp_path / "lq", 2)
    columns = {
        "key": pa.array(["x.png", "y.png"]),
        "status": pa.array(["ok", "ok"]),
        "lq_keys": pa.array([[key] for key in there["key"].to_pylist()]),
        "lq_etags": pa.array([[etag] for etag in there["etag"].to_pylist()]),
        "lq_num_bytes": pa.array([[1], [1]]),
    }
    uri = str(tmp_path / "m.parquet")
    table = manifest.complete(2, columns)
    manifest.write(Manifest("/gt", table, lq_roots=(str(tmp_path / "lq"),)), uri)
    taken = inventory.take(uri)
    assert taken.root == str(tmp_path / "lq")
    assert taken.table["key"].to_pylist() == ["0.png", "1.png"]
    assert taken.table["reason"].to_pylist() == ["", ""]
