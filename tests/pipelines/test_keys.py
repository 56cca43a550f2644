"""Keys of strangers: whatever an image is called, nothing is read or written beside its folder."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines import faults, images, storage
from pipelines.errors import StorageError
from pipelines.images import Photo
from pipelines.restoration import RestoreActor, Stage

PARTS = st.sampled_from(
    (
        *("..", ".", "", "/", "a", "~", "a b", "%2e%2e", "..\\..", "\0", "\n", "\x7f", "$HOME"),
        *("C:", "-rf", "`id`", "....", ".laformer", "é", "\u202e", "\ud800", "\udcff"),
        *("x" * 255, "x" * 256),
    )
)
KEYS = st.one_of(
    st.text(max_size=40),
    st.lists(PARTS, min_size=1, max_size=8).map("/".join),
    st.lists(PARTS, min_size=1, max_size=4).map("".join),
    st.text("ab/.", min_size=900, max_size=1100),
)


def everything(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=120, deadline=None)
@given(key=KEYS)
@example(key="../../x")
@example(key="/etc/x")
@example(key="a/../../x")
@example(key="x" * 1000)
@example(key="d/" * 499 + "xx")
def test_a_key_is_written_below_its_folder_or_refused(key):
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "above" / "root"
        root.mkdir(parents=True)
        try:
            uri = storage.join(str(root), key)
            storage.put(uri, b"bytes")
        except StorageError:
            assert not everything(Path(scratch))
        else:
            [written] = everything(Path(scratch))
            assert written.is_relative_to(root)
            assert storage.get(uri) == b"bytes"


@settings(max_examples=300, deadline=None)
@given(key=KEYS, scheme=st.sampled_from(["s3", "gs"]))
@example(key="../other/x", scheme="s3")
def test_a_key_in_a_bucket_is_taken_literally_or_refused(key, scheme):
    root = f"{scheme}://bucket/prefix"
    try:
        uri = storage.absolute(storage.join(root, key))
    except StorageError:
        return
    assert uri == f"{root}/{key}".rstrip("/")
    assert not {"", ".", ".."}.intersection(key.split("/"))


@pytest.mark.s3
@pytest.mark.parametrize("key", ["x" * 1000, "é" * 500, "a/" * 500 + "b", "?versionId=1", "a&b=c"])
def test_a_long_or_odd_key_is_one_object(s3, key):
    root = f"{s3}/keys of strangers"
    storage.put(storage.join(root, key), b"bytes")
    assert storage.get(storage.join(root, key)) == b"bytes"
    assert [entry.key for entry in storage.list_entries(root, ("",))] == [key]
    storage.delete(storage.join(root, key))


def test_a_store_that_finds_a_key_too_long_is_understood():
    said = (
        "When initiating multiple part upload for key 'x': AWS Error UNKNOWN (HTTP status 400) "
        "during CreateMultipartUpload operation: Unable to parse ExceptionName: KeyTooLongError "
        "Message: Your key is too long"
    )
    assert faults.find(faults.code_of(OSError(said))).about_name


@pytest.fixture
def actor(tmp_path):
    """Return an actor that restores nothing, between two folders."""
    stage = Stage(
        source=str(tmp_path / "in"),
        target=str(tmp_path / "out"),
        load=lambda: lambda pixels: (pixels, ""),
        known=(),
    )
    photo = Photo(pixels=np.zeros((8, 8, 3), np.uint8), alpha=None)
    storage.put(f"{tmp_path}/in/a.png", images.encode(photo, ".png"))
    storage.put(f"{tmp_path}/out/folder.png/x", b"taken")
    storage.put(f"{tmp_path}/out/file", b"taken")
    return RestoreActor(stage)


@pytest.mark.parametrize(
    ("target_key", "reason"),
    [
        ("x" * 1000 + ".png", "the name is longer than the disk allows; shorten it"),
        ("file/a.png", "a part of this path is a file, not a folder"),
        ("folder.png", "is a folder or a device, not a file"),
    ],
)
def test_a_name_that_the_target_cannot_hold_is_a_bad_image_and_no_end(actor, target_key, reason):
    receipt = actor({"key": "a.png", "target_key": target_key, "etag": "1"})
    assert receipt["status"] == "bad"
    assert reason in receipt["reason"]
    assert actor({"key": "a.png", "target_key": "a.png", "etag": "1"})["status"] == "restored"


@pytest.mark.parametrize("key", ["../secret.png", "/etc/passwd.png", "a//b.png", "a/./b.png"])
def test_a_key_that_leaves_the_source_is_a_bad_image(actor, key, tmp_path):
    storage.put(f"{tmp_path}/secret.png", storage.get(f"{tmp_path}/in/a.png"))
    before = everything(tmp_path)
    receipt = actor({"key": key, "target_key": key, "etag": "1"})
    assert receipt["status"] == "bad"
    assert "is not a plain relative path" in receipt["reason"]
    assert everything(tmp_path) == before
