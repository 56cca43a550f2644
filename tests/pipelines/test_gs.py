"""Google's storage, by a server that speaks its protocol: the way from a bucket to samples."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow.fs import FileSelector

from pipelines import huge, images, manifest, storage, uploads
from pipelines.clients import arrow
from pipelines.config import Folders
from pipelines.errors import OutageError, StorageError
from pipelines.indexing import index
from pipelines.plan import Span
from pipelines.training import CropReader
from tests.pipelines.test_huge import pixels, repeated, small_limit, tiled  # noqa: F401
from tests.pipelines.test_indexing import here  # noqa: F401 - a fixture
from tests.pipelines.test_training import digests, photo, stream, write_photos

SERVER = """
import sys
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="tests").run()
"""


@pytest.fixture(scope="module")
def bucket():
    """Start a server in a process of its own; return the uri of an empty bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    try:
        wait_for(port)
        yield "gs://tests"
    finally:
        patch.undo()
        server.kill()
        server.wait()


def wait_for(port, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)


def test_objects_are_written_read_listed_and_deleted(bucket):
    uri = f"{bucket}/a/b/grün ?#1.png"
    storage.put(uri, b"0123456789" * 100_000)
    assert storage.get(uri) == b"0123456789" * 100_000
    assert storage.get_range(uri, 100_003, 9) == b"345678901"
    (found,) = storage.list_entries(f"{bucket}/a", (".png",))
    assert (found.key, found.num_bytes) == ("b/grün ?#1.png", 1_000_000)
    storage.put(uri, b"other")
    assert next(iter(storage.list_entries(f"{bucket}/a", (".png",)))).etag != found.etag
    storage.delete(uri)
    assert not storage.exists(uri)


def test_what_is_not_there_is_explained(bucket):
    with pytest.raises(StorageError, match="gs://tests/none: does not exist"):
        storage.get(f"{bucket}/none")
    with pytest.raises(StorageError, match="bucket nobody does not exist"):
        list(storage.list_entries("gs://nobody/photos", (".png",)))


def test_a_short_range_is_an_outage(bucket):
    storage.put(f"{bucket}/short", b"hello")
    with pytest.raises(OutageError, match="3 of 10 bytes"):
        storage.get_range(f"{bucket}/short", 2, 10)


def test_samples_from_a_bucket_are_those_from_a_disk(bucket, tmp_path, here):  # noqa: F811
    local = write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(3)})
    for i in range(3):
        storage.put(f"{bucket}/photos/{i}.png", (tmp_path / f"{i}.png").read_bytes())
    storage.put(f"{bucket}/photos/broken.png", b"nothing")
    uri = f"{bucket}/m.parquet"
    made = index(Folders(root=f"{bucket}/photos"), uri, holdout=0)
    assert made.bad()["key"].to_pylist() == ["broken.png"]
    assert manifest.read(uri).usable("train").num_rows == 3
    span = Span(0, 8, 0, 4)
    blocks = [CropReader(stream(each)).read(span) for each in (local, uri)]
    assert digests(blocks[0]) == digests(blocks[1])
    assert np.array_equal(blocks[0]["sample_id"], blocks[1]["sample_id"])


def test_a_huge_photo_goes_from_a_bucket_to_a_bucket_whole_or_not_at_all(
    bucket,
    tmp_path,
    small_limit,  # noqa: F811
    monkeypatch,
):
    array = pixels()
    storage.put(f"{bucket}/huge/a.tif", Path(tiled(tmp_path / "a.tif", array)).read_bytes())
    assert huge.huge_size(f"{bucket}/huge/a.tif") == array.shape[:2]
    huge.restore_file(f"{bucket}/huge/a.tif", f"{bucket}/huge/b.tif", repeated())
    again = images.decode(storage.get(f"{bucket}/huge/b.tif"), max_pixels=10**7)
    np.testing.assert_array_equal(again.pixels, array)

    monkeypatch.setattr(uploads.clients, "arrow", lambda _: Failing(arrow("gs")))
    with pytest.raises(StorageError), uploads.scratch_file(f"{bucket}/huge/c.tif") as path:
        path.write_bytes(b"content")
    monkeypatch.undo()
    keys = arrow("gs").get_file_info(FileSelector("tests/huge"))
    assert sorted(each.base_name for each in keys) == ["a.tif", "b.tif"]


class Failing:
    """A client whose copies are refused."""

    def __init__(self, client):
        self.client = client

    def copy_file(self, *_):
        raise PermissionError("denied")

    def __getattr__(self, name):
        return getattr(self.client, name)
