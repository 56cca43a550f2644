"""One huge photo in shares: each has its rows, and together they are the file that one makes."""

import io
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pipelines import huge, inventory, metadata, shares, storage, tiff
from pipelines.mosaic import TILE_PX
from pipelines.restoration import Pool, Stage
from tests.pipelines.test_huge import pixels, small_limit, tiled  # noqa: F401 - a fixture

FOLDER = ".laformer/job/shares"


def repeated(scale):
    """Return what repeats pixels, of the rows that are wanted."""

    def parts(source, sink, shape, rows=None):
        first, last = rows or (0, shape[0])
        for top in range(first, last, 100):
            band = source(top, 0, min(100, last - top), shape[1])
            sink(band.repeat(scale, 0).repeat(scale, 1))
        return "tiles of a test"

    return parts


def stage(folder):
    return Stage(
        source=str(folder / "in"),
        target=str(folder / "out"),
        load=lambda: None,
        known=(),
        shares=FOLDER,
    )


def entry(key, num_bytes):
    return {"key": key, "target_key": key, "etag": "1", "num_bytes": num_bytes, "reason": ""}


@given(height=st.integers(1, 10**6), actors=st.integers(1, 300))
def test_shares_hold_every_row_once_and_begin_where_tiles_of_a_file_do(height, actors):
    cut = shares.cuts(height, actors)
    assert cut[0][0] == 0
    assert cut[-1][1] == height
    assert all(above[1] == below[0] for above, below in pairwise(cut))
    assert all(first % TILE_PX == 0 and last > first for first, last in cut)
    assert len(cut) <= actors
    assert len(cut) == 1 or min(last - first for first, last in cut) >= shares.LEAST_ROWS - TILE_PX


@pytest.mark.parametrize(("scale", "orientation"), [(1, 6), (3, 1)])
def test_the_joined_file_has_the_bytes_of_one_that_was_made_at_once(
    tmp_path,
    small_limit,  # noqa: F811
    monkeypatch,
    scale,
    orientation,
):
    monkeypatch.setattr(shares, "LEAST_ROWS", 256)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    block = Image.Exif()
    block[271], block[282], block[283] = "Maker", 300.0, 200.0
    block.get_ifd(34665)[36867] = "2026:01:02 03:04:05"
    block.get_ifd(34665)[40962] = 530
    said = metadata.tiff_entries(metadata.Metadata(exif=block.tobytes()[6:]))
    said[0][tiff.ORIENTATION] = tiff.shorts("<", orientation)
    (tmp_path / "in").mkdir()
    array = pixels(803, 610)
    alpha = np.random.default_rng(1).integers(0, 256, array.shape[:2], dtype=np.uint8)
    source = tiled(tmp_path / "in" / "a.tif", array, alpha=alpha, profile=profile, said=said)
    whole = str(tmp_path / "whole.tif")
    expected = huge.restore_file(source, whole, repeated(scale))

    made = stage(tmp_path)
    items = pa.Table.from_pylist([entry("a.tif", 9), entry("b.tif", 1)], inventory.SCHEMA)
    (photo,), others = shares.chosen(items, made, 2)
    assert others["key"].to_pylist() == ["b.tif"]
    assert len(photo.shares) == 2
    for name, rows in photo.shares.items():
        assert shares.rows_of(name) == rows
        huge.restore_file(source, storage.join(made.target, name), repeated(scale), rows)
    assert sorted(shares.listed(made.target, FOLDER)) == sorted(photo.shares)
    found = shares.join(photo, made)
    assert (tmp_path / "out" / "a.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert found.sha256 == expected.sha256
    sides = ("height", "width", "out_height", "out_width", "num_bytes")
    assert [getattr(found, side) for side in sides] == [getattr(expected, side) for side in sides]
    with Image.open(io.BytesIO((tmp_path / "out" / "a.tif").read_bytes())) as image:
        assert image.getexif()[271] == "Maker"
    shares.clear(made.target, FOLDER)
    assert not shares.listed(made.target, FOLDER)


def test_only_a_huge_photo_that_others_would_wait_for_is_shared(
    tmp_path,
    small_limit,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(shares, "LEAST_ROWS", 256)
    made = stage(tmp_path)
    (tmp_path / "in").mkdir()
    tiled(tmp_path / "in" / "a.tif", pixels())
    listed = [entry("a.tif", 10), entry("b.tif", 100), entry("gone.tif", 90), entry("c.png", 99)]
    for keep, actors in ((listed, 2), (listed[:1], 1)):
        items = pa.Table.from_pylist(keep, inventory.SCHEMA)
        found, others = shares.chosen(items, made, actors)
        assert not found
        assert others.equals(items)
    items = pa.Table.from_pylist([entry("a.tif", 10) | {"target_key": "a.png"}], inventory.SCHEMA)
    assert not shares.chosen(items, made, 2)[0]


def test_shares_that_are_there_are_not_made_again(
    tmp_path,
    small_limit,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(shares, "LEAST_ROWS", 256)
    made = stage(tmp_path)
    (tmp_path / "in").mkdir()
    source = tiled(tmp_path / "in" / "a.tif", pixels())
    items = pa.Table.from_pylist([entry("a.tif", 9)], inventory.SCHEMA)
    (photo,), _ = shares.chosen(items, made, 2)
    first, second = photo.shares
    huge.restore_file(source, storage.join(made.target, first), repeated(1), photo.shares[first])
    asked = []

    def stream(missing, *_):
        asked.extend(each["target_key"] for each in missing)
        return iter([{"target_key": second, "status": "bad", "reason": "too dark"}])

    monkeypatch.setattr(shares, "stream", stream)
    (receipt,) = shares.restored([photo], made, Pool(actors=2))
    assert asked == [second]
    assert (receipt["status"], receipt["reason"]) == ("bad", "too dark")
    assert receipt["target_key"] == "a.tif"
    huge.restore_file(source, storage.join(made.target, second), repeated(1), photo.shares[second])
    monkeypatch.setattr(shares, "joined", lambda photo, *_: {"key": photo.entry["key"]})
    assert list(shares.restored([photo], made, Pool(actors=2))) == [{"key": "a.tif"}]
    assert asked == [second]
    other = pa.Table.from_pylist([entry("a.tif", 9) | {"etag": "2"}], inventory.SCHEMA)
    (changed,), _ = shares.chosen(other, made, 2)
    assert not set(changed.shares) & set(photo.shares)
