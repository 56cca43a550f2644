"""From a folder to its manifest: every image a row, read once, whatever happens on the way."""

import itertools
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pipelines import images, indexing, manifest, storage
from pipelines.config import Folders
from pipelines.errors import ManifestError, OutageError
from pipelines.images import Photo
from pipelines.indexing import Inspect, index, survey
from pipelines.manifest import complete
from tests.pipelines.test_training import photo


def save(path, seed=0, size=(40, 52), suffix=".png", dtype=np.uint8):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(images.encode(Photo(pixels=photo(seed, size=size, dtype=dtype)), suffix))


@pytest.fixture
def here(monkeypatch):
    """Read in this process, one task after the other; return the keys that were read."""
    read = []

    def inspected(source, rows):
        for start in range(0, rows.num_rows, 2):
            some = rows.slice(start, 2)
            read.extend(some["key"].to_pylist())
            yield Inspect(source)(some)

    monkeypatch.setattr(indexing, "_inspected", inspected)
    return read


def test_a_bad_photo_is_a_row_with_its_reason(tmp_path, here):
    photos = tmp_path / "photos"
    save(photos / "good.png")
    whole = (photos / "good.png").read_bytes()
    header = bytearray(whole)
    header[16:24] = (2**15).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    for name, data in {
        "cut.png": whole[:100],
        "empty.jpg": b"",
        "page.png": b"<html>404</html>",
        "wide.png": bytes(header),
        "really_png.jpg": whole,
    }.items():
        (photos / name).write_bytes(data)
    (photos / "gone.png").symlink_to(photos / "nothing")
    made = index(Folders(root=str(photos)), str(tmp_path / "m.parquet"), holdout=0)
    rows = {row["key"]: row for row in made.table.to_pylist()}
    assert list(rows) == sorted(rows)
    assert {key: row["kind"] for key, row in rows.items()} == {
        "good.png": "",
        "really_png.jpg": "",  # the content counts, not the name
        "cut.png": "damaged",
        "empty.jpg": "empty",
        "page.png": "no image",
        "wide.png": "too large",
        "gone.png": "unreadable",
    }
    assert all((row["status"] == "bad") == bool(row["reason"]) for row in rows.values())
    good = rows["good.png"]
    assert (good["height"], good["width"], good["channels"], good["bits"]) == (40, 52, 3, 8)


def test_an_outage_is_no_fault_of_the_photo(tmp_path, monkeypatch):
    def fail(_uri):
        raise OutageError("later")

    monkeypatch.setattr(storage, "get", fail)
    row = complete(1, {"key": ["a.png"]})
    with pytest.raises(OutageError):
        Inspect(Folders(root=str(tmp_path)))(row)


def test_only_new_and_changed_photos_are_read(tmp_path, here):
    photos, uri = tmp_path / "photos", str(tmp_path / "m.parquet")
    for i in range(4):
        save(photos / f"sub {i}" / f"ä#{i}.png", seed=i)
    (photos / "zero.png").write_bytes(b"")
    source = Folders(root=str(photos))
    first = index(source, uri, holdout=0.25)
    assert manifest.read(uri) == first
    assert first.bad()["key"].to_pylist() == ["zero.png"]
    assert first.usable("train").num_rows + first.usable("held_out").num_rows == 4
    assert [path.name for path in tmp_path.iterdir() if path.name != "photos"] == ["m.parquet"]

    here.clear()
    assert index(source, uri, holdout=0.25) == first
    assert here == []
    save(photos / "zero.png", seed=9)
    (photos / "sub 1" / "ä#1.png").unlink()
    second = index(source, uri, holdout=0.25)
    assert here == ["zero.png"]
    assert second.bad().num_rows == 0
    assert second.table["key"].to_pylist() == [
        *(f"sub {i}/ä#{i}.png" for i in (0, 2, 3)),
        "zero.png",
    ]
    assert second.digest() != first.digest()


def test_a_run_that_was_stopped_is_continued(tmp_path, here, monkeypatch):
    monkeypatch.setattr(indexing, "PART_EVERY_S", 0)
    photos, uri = tmp_path / "photos", str(tmp_path / "m.parquet")
    for i in range(7):
        save(photos / f"{i}.png", seed=i)
    source = Folders(root=str(photos))
    stream = survey(source, uri).inspect()
    for _ in itertools.islice(stream, 2):
        pass
    del stream  # two tasks of two photos were done
    assert here == ["0.png", "1.png", "2.png", "3.png"]
    save(photos / "1.png", seed=100)
    other = Folders(root=str(tmp_path))
    assert survey(other, uri).todo.num_rows == 7
    here.clear()
    made = index(source, uri, holdout=0.25)
    assert here == ["1.png", "4.png", "5.png", "6.png"]
    assert made.table.num_rows == 7
    assert not Path(f"{uri}.parts").exists()


def test_captured_pairs_are_audited(tmp_path, here):
    gt, lq, uri = tmp_path / "gt", tmp_path / "lq", str(tmp_path / "m.parquet")
    names = ["deep", "fits", "odd", "broken", "alone", "torn"]
    for name in names:
        save(gt / f"{name}.png", size=(40, 52))
    save(lq / "fits.jpg", size=(20, 26), suffix=".jpg")
    save(lq / "deep.png", size=(20, 26), dtype=np.uint16)
    save(lq / "odd.png", size=(20, 25))
    save(lq / "torn.png", size=(20, 26))
    save(lq / "extra.png", size=(20, 26))
    (lq / "broken.png").write_bytes((lq / "torn.png").read_bytes()[:60])
    (gt / "torn.png").write_bytes(b"")
    source = Folders(root=str(gt), lq_roots=(str(lq),), scale=2)
    made = index(source, uri, holdout=0.5)
    again = manifest.read(uri)
    assert again == made
    assert (again.captured, again.lq_roots, again.scale) == (True, (str(lq),), 2)
    rows = {row["key"]: row for row in made.table.to_pylist()}
    assert {key: row["kind"] for key, row in rows.items()} == {
        "": "lq without gt",
        "alone.png": "without lq",
        "broken.png": "lq damaged",
        "deep.png": "",
        "fits.png": "",
        "odd.png": "sizes differ",
        "torn.png": "empty",
    }
    assert "25 x 20 pixels and gt 52 x 40, which is not 2 times" in rows["odd.png"]["reason"]
    assert rows["fits.png"]["lq_keys"] == ["fits.jpg"]
    assert rows["fits.png"]["lq_num_bytes"] == [(lq / "fits.jpg").stat().st_size]
    assert rows[""]["lq_keys"] == ["extra.png"]

    here.clear()
    save(lq / "deep.png", seed=3, size=(20, 26))
    save(lq / "alone.png", size=(20, 26))
    more = index(source, uri, holdout=0.5)
    assert sorted(here) == ["alone.png", "deep.png"]
    assert more.digest() != made.digest()
    assert survey(Folders(root=str(gt)), uri).todo.num_rows == 6


def test_an_empty_folder_is_explained(tmp_path):
    with pytest.raises(ManifestError, match=r"no photos in .*put \.png, \.jpg"):
        index(Folders(root=str(tmp_path)), str(tmp_path / "m.parquet"), holdout=0.1)


def test_what_is_no_manifest_is_not_written_over(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "m.parquet").write_bytes(b"hello")
    with pytest.raises(ManifestError, match="is not a manifest"):
        survey(Folders(root=str(tmp_path)), str(tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 2}, "are about captured pairs; name their folder with --lq"),
        ({"lq_roots": ("gt",)}, "is the folder of gt too; .* --match _GT_ _NOISY_"),
        ({"lq_roots": ("a", "b", "c")}, "lq is given 3 times"),
        ({"lq_roots": ("a",), "scale": 0}, "scale 0 is less than 1"),
        ({"lq_roots": ("a",), "match": ("(", "")}, r"'\('.* is no pattern with its replacement"),
        ({"lq_roots": ("a",), "match": ("a", r"\1")}, "invalid group reference"),
    ],
)
def test_a_source_that_pairs_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Folders(root="gt", **options)


KILLED = """
import os, signal, sys
from pipelines import indexing
from pipelines.config import Folders

def inspected(source, rows):
    for at in range(rows.num_rows):
        yield indexing.Inspect(source)(rows.slice(at, 1))

indexing.PART_EVERY_S, indexing._inspected = 0, inspected
stream = indexing.survey(Folders(root=sys.argv[1]), sys.argv[2]).inspect()
for _ in range(3):
    next(stream)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.ray
@pytest.mark.s3
def test_a_killed_run_is_continued_on_s3(cluster, s3):
    root, uri = f"{s3}/indexing/photos", f"{s3}/indexing/m.parquet"
    for i in range(5):
        data = images.encode(Photo(pixels=photo(i)), ".png")
        storage.put(storage.join(root, f"{i}.png"), data)
    killed = subprocess.run([sys.executable, "-c", KILLED, root, uri], check=False, env=os.environ)
    assert killed.returncode == -9
    found = survey(Folders(root=root), uri)
    assert found.todo["key"].to_pylist() == ["3.png", "4.png"]
    made = found.conclude(found.inspect(), 0.2)
    assert made.table["key"].to_pylist() == [f"{i}.png" for i in range(5)]
    assert set(made.table["status"].to_pylist()) == {"ok"}
    assert manifest.read(uri) == made
    assert storage.list_entries(f"{uri}.parts", (".parquet",)) == []
    assert survey(Folders(root=root), uri).todo.num_rows == 0
