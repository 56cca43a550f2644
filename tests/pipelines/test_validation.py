"""Whole held-out photos, as the gate of a task judges them."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from pipelines import manifest
from pipelines.config import DataConfig
from pipelines.errors import ManifestError, StorageError
from pipelines.manifest import SCHEMA, Manifest
from pipelines.tasks import TASKS
from pipelines.validation import WholePhotos
from tests.pipelines.test_training import photo, write_pairs, write_photos

WHOLE = DataConfig(validation_px=0, validation_images=3)


def hold_out(uri):
    """Keep all photos of a manifest out of training."""
    found = manifest.read(uri)
    rows = [row | {"split": "held_out"} for row in found.table.to_pylist()]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    manifest.write(Manifest(found.root, table, found.lq_roots, found.scale), uri)
    return uri


@pytest.fixture
def uri(tmp_path):
    return hold_out(write_photos(tmp_path, {f"{i}.png": photo(i, size=(41, 53)) for i in range(5)}))


def rows_of(uri, task):
    return list(WholePhotos.of((uri,), task=TASKS[task], config=WHOLE))


def test_photos_are_whole_and_degraded_as_the_gate_does(uri):
    rows = rows_of(uri, "denoise-gaussian")
    assert [row["key"] for row in rows] == ["0.png", "1.png", "2.png"]
    for index, row in enumerate(rows):
        assert np.array_equal(row["gt"], photo(index, size=(41, 53)))
        # Noise of sigma 25, whatever the task draws in training, neither clipped nor rounded.
        assert row["lq"].dtype == np.float32
        noise = row["lq"] * 255 - row["gt"].astype(np.float32)
        assert noise.std() == pytest.approx(25, abs=1.5)


def test_every_validation_sees_the_same_bytes(uri):
    first, again = (rows_of(uri, "weather") for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert a["lq"].tobytes() == b["lq"].tobytes()


def test_super_resolution_cuts_what_is_no_multiple(uri):
    row = rows_of(uri, "sr-x4")[0]
    assert row["gt"].shape == (40, 52, 3)
    assert row["lq"].shape == (10, 13, 3)


def test_grey_tasks_have_one_channel(uri):
    row = rows_of(uri, "denoise-gaussian-grey")[0]
    assert row["gt"].shape == row["lq"].shape == (41, 53, 1)


def test_captured_photos_are_taken_as_they_are(tmp_path):
    clean = {"a.png": photo(0, dtype=np.uint16)}
    views = [photo(1, dtype=np.uint16), photo(2, dtype=np.uint16)]
    uri = hold_out(write_pairs(tmp_path, clean, {"a.png": views}))
    (row,) = rows_of(uri, "deblur-defocus-dual")
    assert row["lq"].shape == (40, 52, 6)
    assert row["gt"].dtype == row["lq"].dtype == np.uint8


def test_ranks_share_the_photos_and_read_them_when_asked(uri, tmp_path):
    photos = WholePhotos.of((uri,), task=TASKS["jpeg"], config=WHOLE)
    shares = [pickle.loads(pickle.dumps(photos))[rank::2] for rank in range(2)]
    assert [[row["key"] for row in share] for share in shares] == [["0.png", "2.png"], ["1.png"]]
    (tmp_path / "2.png").unlink()
    rows = iter(shares[0])
    assert next(rows)["key"] == "0.png"
    with pytest.raises(StorageError, match=r"2\.png"):
        next(rows)


def test_nothing_held_out_and_a_negative_side_are_explained(tmp_path):
    uri = write_photos(tmp_path, {"a.png": photo(0)})
    with pytest.raises(ManifestError, match=r"run laformer prepare with --holdout 0\.2"):
        rows_of(uri, "jpeg")
    with pytest.raises(ValueError, match="validation_px -1 is negative; use 0: whole photos"):
        DataConfig(validation_px=-1)
