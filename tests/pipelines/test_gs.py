"""Google's storage, by a server that speaks its protocol: the way from a bucket to samples."""

import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from pipelines import manifest, storage
from pipelines.config import Folders
from pipelines.errors import OutageError, StorageError
from pipelines.indexing import index
from pipelines.plan import Span
from pipelines.training import CropReader
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
