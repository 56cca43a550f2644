import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import images, manifest, storage
from pipelines.errors import ManifestError
from pipelines.images import Photo
from pipelines.manifest import Inspect, index, split
from tests.pipelines.test_training import photo


@given(keys=st.sets(st.text(min_size=1), max_size=30), holdout=st.floats(0, 0.9))
def test_both_sides_get_a_photo_where_there_are_two(keys, holdout):
    sides = list(split(sorted(keys), holdout).values())
    assert len(sides) == len(keys)
    if len(keys) > 1:
        assert "train" in sides
        assert ("held_out" in sides) == (holdout > 0)


@given(keys=st.sets(st.text(min_size=1), min_size=40, max_size=60))
def test_a_photo_keeps_its_side_when_others_come(keys):
    ordered = sorted(keys)
    few, many = split(ordered[:-10], 0.5), split(ordered, 0.5)
    assert all(many[key] == side for key, side in few.items())


def save(path, seed=0):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(images.encode(Photo(pixels=photo(seed), alpha=None), ".png"))


def test_a_bad_photo_is_a_row_with_its_reason(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:100])
    entries = {
        e.key: dataclasses.asdict(e) for e in storage.list_entries(str(tmp_path), images.SUFFIXES)
    }
    inspect = Inspect(str(tmp_path))
    good, bad = inspect(entries["good.png"]), inspect(entries["bad.png"])
    assert (good["status"], good["height"], good["width"], good["bits"]) == ("ok", 40, 52, 8)
    assert bad["status"] == "bad"
    assert bad["reason"]


@pytest.mark.ray
def test_index_reads_new_and_changed_photos_only(cluster, tmp_path, monkeypatch):
    for i in range(4):
        save(tmp_path / "photos" / f"sub {i}" / f"ä#{i}.png", seed=i)
    (tmp_path / "photos" / "zero.png").write_bytes(b"")
    root, uri = str(tmp_path / "photos"), str(tmp_path / "m.parquet")
    first = index(root, holdout=0.25)
    manifest.write(first, uri)
    assert manifest.read(uri).table.equals(first.table)
    assert manifest.read(uri).digest() == first.digest()
    assert first.bad()["key"].to_pylist() == ["zero.png"]
    assert first.usable("train").num_rows + first.usable("held_out").num_rows == 4

    save(tmp_path / "photos" / "zero.png", seed=9)
    seen = []
    inspect_all = manifest._inspect_all
    monkeypatch.setattr(
        manifest,
        "_inspect_all",
        lambda root, entries: seen.extend(e.key for e in entries) or inspect_all(root, entries),
    )
    second = index(root, holdout=0.25, previous=first)
    assert seen == ["zero.png"]
    assert second.bad().num_rows == 0
    assert second.digest() != first.digest()


def test_an_empty_folder_is_explained(tmp_path):
    with pytest.raises(ManifestError, match=r"no photos in .*put \.png, \.jpg"):
        index(str(tmp_path), holdout=0.1)


def test_a_missing_manifest_is_explained(tmp_path):
    with pytest.raises(ManifestError, match="write one with: laformer prepare PHOTOS"):
        manifest.read(str(tmp_path / "m.parquet"))


def test_another_file_is_no_manifest(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"hello")
    with pytest.raises(ManifestError, match="is not a manifest"):
        manifest.read(str(tmp_path / "m.parquet"))
