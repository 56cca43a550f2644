import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import manifest
from pipelines.errors import ManifestError, OldManifestError
from pipelines.manifest import SCHEMA, Manifest, complete, held_out, with_split

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(keys=st.sets(NAMES, max_size=30), holdout=st.floats(0, 0.9))
def test_both_sides_get_a_photo_where_there_are_two(keys, holdout):
    sides = held_out(pa.array(sorted(keys), pa.string()), holdout).tolist()
    assert len(sides) == len(keys)
    if len(keys) > 1:
        assert False in sides
        assert (True in sides) == (holdout > 0)


@settings(deadline=None)
@given(keys=st.sets(NAMES, min_size=40, max_size=60))
def test_a_photo_keeps_its_side_when_others_come(keys):
    ordered = sorted(keys)
    few, many = (held_out(pa.array(some), 0.5).tolist() for some in (ordered[:-10], ordered))
    assert many[:-10] == few


def test_bad_photos_take_no_place_on_either_side():
    keys = [f"{i}.png" for i in range(20)]
    table = complete(20, {"key": keys, "status": ["ok", "bad"] * 10})
    sides = with_split(table, 0.5)["split"].to_pylist()
    assert set(sides[1::2]) == {"train"}
    assert [side == "held_out" for side in sides[::2]] == held_out(
        pa.array(keys[::2]), 0.5
    ).tolist()


def sample():
    return Manifest(
        "root",
        complete(
            2,
            {
                "key": ["a.png", "b.png"],
                "etag": ["1", "2"],
                "status": ["ok", "bad"],
                "kind": ["", "empty"],
                "reason": ["", "why"],
                "lq_keys": [["l.png", "r.png"], []],
            },
        ),
        ("left", "s3://bucket/right"),
        4,
    )


def test_a_manifest_comes_back(tmp_path):
    uri = str(tmp_path / "m.parquet")
    made = sample()
    manifest.write(made, uri)
    again = manifest.read(uri)
    assert again == made
    assert again.captured
    assert again.digest() == made.digest()
    assert not Manifest("root", made.table).captured


def test_the_digest_is_that_of_the_rows_not_of_their_layout():
    made = sample()
    pieces = pa.concat_tables([made.table.slice(0, 1), made.table.slice(1)])
    assert dataclasses.replace(made, table=pieces).digest() == made.digest()
    empty = Manifest("root", SCHEMA.empty_table())
    assert empty.digest() != made.digest()


def test_the_digest_changes_with_all_that_counts():
    made = sample()
    seen = {made.digest()}
    for column, value in {
        "key": "other",
        "etag": "other",
        "split": "held_out",
        "status": "other",
        "lq_keys": ["other"],
        "lq_etags": ["other"],
    }.items():
        rows = made.table.to_pylist()
        rows[0][column] = value
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        seen.add(dataclasses.replace(made, table=table).digest())
    seen |= {dataclasses.replace(made, scale=2).digest()}
    seen |= {dataclasses.replace(made, lq_roots=("left",)).digest()}
    seen |= {dataclasses.replace(made, profile="srgb").digest()}
    assert len(seen) == 10
    # Names move from one text to the next.
    keys = [["ab", "c"], ["a", "bc"]]
    assert len({Manifest("", complete(2, {"key": key})).digest() for key in keys}) == 2


def test_a_missing_manifest_is_explained(tmp_path):
    with pytest.raises(ManifestError, match="write one with: laformer prepare PHOTOS"):
        manifest.read(str(tmp_path / "m.parquet"))


def test_another_file_is_no_manifest(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"hello")
    with pytest.raises(ManifestError, match="is not a manifest"):
        manifest.read(str(tmp_path / "m.parquet"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "p.parquet")
    with pytest.raises(ManifestError, match="is Parquet but not a manifest; name another file"):
        manifest.read(str(tmp_path / "p.parquet"))


def test_a_manifest_of_another_version_is_told_apart(tmp_path):
    pq.write_table(pa.table({"a": [1]}, metadata={"root": "photos"}), tmp_path / "m.parquet")
    with pytest.raises(OldManifestError, match="run laformer prepare again"):
        manifest.read(str(tmp_path / "m.parquet"))


def test_damaged_facts_and_bytes_are_explained(tmp_path):
    uri = str(tmp_path / "m.parquet")
    table = complete(1, {"key": ["a.png"]})
    for facts in ({"scale": "x"}, {"lq_roots": "{"}):
        whole = {"root": "r", "scale": "1", "profile": "keep", "lq_roots": "[]"} | facts
        pq.write_table(table.replace_schema_metadata(whole), uri)
        with pytest.raises(
            ManifestError, match=r"has damaged facts .*; remove it and run laformer"
        ):
            manifest.read(uri)
    data = bytearray(Path(uri).read_bytes())
    data[-200:-100] = bytes(100)
    Path(uri).write_bytes(data)
    with pytest.raises(ManifestError, match="remove it and run laformer prepare"):
        manifest.read(uri)


def test_keys_that_are_no_text_are_damage(tmp_path):
    table = complete(1, {"key": pa.array([b"\xff"]).view(pa.string())})
    manifest.write(Manifest("/photos", table), str(tmp_path / "m.parquet"))
    with pytest.raises(ManifestError, match="is not a manifest"):
        manifest.read(str(tmp_path / "m.parquet"))
