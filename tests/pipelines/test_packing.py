"""Photos in shards: the same samples, whatever happens to the shards."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from pipelines import images, manifest, packing, sources, storage
from pipelines.config import Folders
from pipelines.images import Photo
from pipelines.indexing import index
from pipelines.packing import Packer
from pipelines.plan import Span
from pipelines.tasks import TASKS
from pipelines.training import CropReader
from tests.pipelines.test_training import digests, photo, stream, write_pairs, write_photos

SPAN = Span(0, 12, 0, 4)


def packed(uri, folder):
    """Pack every row without Ray and write the manifest."""
    catalogue = manifest.read(uri)
    places = Packer(catalogue, str(folder))(packing.waiting(catalogue, str(folder)))
    return packing.placed(catalogue, places, uri)


def read(uri, task=TASKS["denoise-gaussian"]):
    """Return the hashes of some samples and how many were replaced, as a new process does."""
    sources._entries.cache_clear()
    block = CropReader(stream(uri, task=task)).read(SPAN)
    return digests(block), int((block["replaced"] > 0).sum())


@pytest.mark.parametrize("task", ["denoise-gaussian", "denoise-gaussian-grey", "sr-x2"])
def test_samples_from_tiles_are_those_from_photos(tmp_path, task):
    kinds = [{}, {"dtype": np.uint16}, {"channels": 1}, {"size": (300, 41)}]
    photos = {f"{i}.png": photo(i, **kind) for i, kind in enumerate(kinds)}
    uri = write_photos(tmp_path, photos)
    direct, _ = read(uri, TASKS[task])
    made = packed(uri, tmp_path / "shards")
    assert packing.waiting(made, str(tmp_path / "shards")).num_rows == 0
    for name in photos:
        (tmp_path / name).unlink()
    assert read(uri, TASKS[task]) == (direct, 0)


def test_a_pair_lies_together(tmp_path):
    photos = {f"{i}.png": photo(i) for i in range(3)}
    views = {key: [gt, 255 - gt] for key, gt in photos.items()}
    uri = write_pairs(tmp_path, photos, views)
    task = TASKS["deblur-defocus-dual"]
    direct, _ = read(uri, task)
    packed(uri, tmp_path / "shards")
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert read(uri, task) == (direct, 0)


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_a_damaged_shard_is_read_around(tmp_path, harm):
    uri = write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(4)})
    direct, _ = read(uri)
    packed(uri, tmp_path / "shards")
    (shard,) = (tmp_path / "shards").glob("*.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    if harm == "gone":
        shard.unlink()
    else:
        shard.write_bytes(data if harm == "flipped" else data[: len(data) // 3])
    assert read(uri) == (direct, 0)


def test_shards_change_nothing_a_run_resumes_on_and_new_ones_are_added(tmp_path):
    uri = write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(3)})
    before = manifest.read(uri).digest()
    made = packed(uri, tmp_path / "shards")
    assert made.digest() == before
    rows = made.table.to_pylist()
    rows[1] |= {"shard": "", "offset": 0, "shard_bytes": 0}
    some = dataclasses.replace(made, table=pa.Table.from_pylist(rows, schema=made.table.schema))
    folder = str(tmp_path / "shards")
    assert packing.waiting(some, folder)["key"].to_pylist() == ["1.png"]
    assert packing.waiting(some, str(tmp_path / "other")).num_rows == 3


def test_what_cannot_be_read_any_more_stays_without_a_shard(tmp_path):
    uri = write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(3)})
    (tmp_path / "1.png").write_bytes(b"broken")
    made = packed(uri, tmp_path / "shards")
    assert packing.waiting(made, str(tmp_path / "shards"))["key"].to_pylist() == ["1.png"]


@pytest.mark.ray
@pytest.mark.s3
def test_a_bucket_is_packed_over_ray(cluster, s3):
    root = f"{s3}/to-pack"
    for i in range(5):
        data = images.encode(Photo(pixels=photo(i)), ".png")
        storage.put(storage.join(root, f"{i}.png"), data)
    uri, folder = f"{s3}/to-pack.parquet", f"{s3}/packed"
    catalogue = index(Folders(root=root), uri, holdout=0.3)
    direct, _ = read(uri)
    num = catalogue.usable("train").num_rows
    assert list(packing.pack(catalogue, folder, uri))[-1] == num
    made = manifest.read(uri)
    assert packing.waiting(made, folder).num_rows == 0
    assert sum(shard != "" for shard in made.table["shard"].to_pylist()) == num
    for row in made.usable("train").to_pylist():
        storage.delete(storage.join(root, row["key"]))
    assert read(uri) == (direct, 0)
