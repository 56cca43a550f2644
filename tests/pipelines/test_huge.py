"""A TIFF too large to be held goes through in bands, and comes out as the tiles of the whole."""

import errno
import hashlib
import io
import sys
import tempfile
from functools import partial
from pathlib import Path

import boto3
import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines import huge, images, metadata, storage, tiff, uploads
from pipelines.errors import ImageError, NameRefusedError, StorageError
from pipelines.images import Photo
from pipelines.mosaic import TILE_PX, Mosaic
from pipelines.restoration import RestoreActor, Stage
from tests.perf.measure import GIVE_BACK, elsewhere, grown_bytes


def pixels(height=700, width=530, channels=3, dtype=np.uint8):
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def repeated(scale=1, tile_px=128):
    """Return what asks for tiles, as a network does, and repeats their pixels."""

    def parts(source, sink, shape, rows=None):
        height, width, channels = shape
        for top in range(0, height, tile_px):
            rows = min(tile_px, height - top)
            lefts = range(0, width, tile_px)
            cut = [source(top, left, rows, min(tile_px, width - left)) for left in lefts]
            band = np.concatenate(cut, axis=1)
            assert band.shape == (rows, width, channels)
            sink(band.repeat(scale, 0).repeat(scale, 1))
        return "tiles of a test"

    return parts


def tiled(path, array, *, alpha=None, profile=None, said=None):
    with path.open("wb") as file:
        whole = Mosaic(file, *array.shape[:2], with_alpha=alpha is not None)
        whole.write(array if alpha is None else np.dstack((array, alpha)))
        whole.close(profile, said or {0: {}})
    return str(path)


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100_000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_a_mosaic_is_read_as_it_was_written(tmp_path, dtype, channels, with_alpha):
    array = pixels(TILE_PX + 44, 2 * TILE_PX + 3, channels, dtype)
    alpha = pixels(*array.shape[:2], 1, dtype)[:, :, 0] if with_alpha else None
    data = (tmp_path / tiled(tmp_path / "a.tif", array, alpha=alpha)).read_bytes()
    photo = images.decode(data)
    np.testing.assert_array_equal(photo.pixels, array)
    if with_alpha:
        np.testing.assert_array_equal(photo.alpha, alpha)


def test_others_read_a_mosaic(tmp_path):
    array = pixels(300, 310)
    with Image.open(tiled(tmp_path / "a.tif", array)) as image:
        np.testing.assert_array_equal(np.asarray(image), array)


def test_a_mosaic_that_lacks_rows_is_not_closed(tmp_path):
    with (tmp_path / "a.tif").open("wb") as file:
        mosaic = Mosaic(file, 600, 40)
        mosaic.write(pixels(100, 40))
        with pytest.raises(ValueError, match="2 tiles are missing"):
            mosaic.close(None, {0: {}})


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", ["tiles", "strips"])
def test_a_huge_photo_comes_out_as_a_small_one_would(tmp_path, small_limit, kind, scale):
    array, target = pixels(), tmp_path / "out" / "b.tif"
    source = tmp_path / "a.tif"
    if kind == "tiles":
        tiled(source, array)
    else:
        Image.fromarray(array).save(source, "TIFF", compression="tiff_lzw", strip_size=530 * 90)
    assert huge.huge_size(str(source))
    found = huge.restore_file(str(source), str(target), repeated(scale))
    assert (found.height, found.width, found.how) == (700, 530, "tiles of a test")
    assert found.num_bytes == target.stat().st_size
    expected = array.repeat(scale, 0).repeat(scale, 1)
    again = images.decode(target.read_bytes(), max_pixels=10**7)
    np.testing.assert_array_equal(again.pixels, expected)
    assert [path.name for path in target.parent.iterdir()] == ["b.tif"]


@pytest.mark.parametrize("scale", [1, 3])
def test_alpha_profile_and_exif_go_along(tmp_path, small_limit, scale):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    array, alpha = pixels(), np.full((700, 530), 200, np.uint8)
    alpha[100:300] = 7
    block = Image.Exif()
    block[271], block[282], block[283] = "Maker", 300.0, 300.0
    block.get_ifd(34665)[36867] = "2026:01:02 03:04:05"
    said = metadata.tiff_entries(metadata.Metadata(exif=block.tobytes()[6:]))
    source = tiled(tmp_path / "a.tif", array, alpha=alpha, profile=profile, said=said)
    huge.restore_file(source, str(tmp_path / "b.tif"), repeated(scale))
    data = (tmp_path / "b.tif").read_bytes()
    photo = images.decode(data, max_pixels=10**7)
    assert photo.profile == profile
    middle = photo.alpha[::scale, ::scale]
    assert (middle[[50, 200, 500]] == [[200], [7], [200]]).all()
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[271] == "Maker"
        assert image.getexif().get_ifd(34665)[36867] == "2026:01:02 03:04:05"


def test_a_turned_photo_comes_out_upright(tmp_path, small_limit):
    array = pixels()
    source = tiled(tmp_path / "a.tif", array, said={0: {tiff.ORIENTATION: tiff.shorts("<", 6)}})
    huge.restore_file(source, str(tmp_path / "b.tif"), repeated())
    again = images.decode((tmp_path / "b.tif").read_bytes(), max_pixels=10**7)
    np.testing.assert_array_equal(again.pixels, np.rot90(array, -1))


def test_a_network_that_fails_leaves_the_target_alone(tmp_path, small_limit):
    def broken(source, sink, shape, rows=None):
        sink(source(0, 0, 100, shape[1]))
        raise ImageError("no more")

    (tmp_path / "b.tif").write_bytes(b"before")
    with pytest.raises(ImageError, match="no more"):
        huge.restore_file(tiled(tmp_path / "a.tif", pixels()), str(tmp_path / "b.tif"), broken)
    assert (tmp_path / "b.tif").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


@pytest.mark.s3
def test_from_a_bucket_to_a_bucket(s3, tmp_path, small_limit, monkeypatch):
    monkeypatch.setattr(uploads, "PART_BYTES", 5 * 2**20)
    array = pixels(1500, 1300)
    tiled(tmp_path / "a.tif", array)
    storage.put(f"{s3}/huge/a.tif", (tmp_path / "a.tif").read_bytes())
    assert huge.huge_size(f"{s3}/huge/a.tif")
    huge.restore_file(f"{s3}/huge/a.tif", f"{s3}/huge/b.tif", repeated())
    again = images.decode(storage.get(f"{s3}/huge/b.tif"), max_pixels=10**7)
    np.testing.assert_array_equal(again.pixels, array)


@pytest.mark.s3
def test_an_upload_that_fails_leaves_nothing(s3, monkeypatch):
    call = uploads.clients.call_s3

    def failing(method, **arguments):
        if method == "upload_part":
            raise PermissionError("denied")
        return call(method, **arguments)

    monkeypatch.setattr(uploads.clients, "call_s3", failing)
    with pytest.raises(StorageError), uploads.scratch_file(f"{s3}/huge/c.tif") as path:
        path.write_bytes(b"content")
    assert not storage.exists(f"{s3}/huge/c.tif")
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket="tests")


def test_a_target_that_is_a_folder_is_refused(tmp_path, small_limit):
    source = tiled(tmp_path / "a.tif", pixels())
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(NameRefusedError, match="is a folder or a device"):
        huge.restore_file(source, str(tmp_path / "b.tif"), repeated())
    with pytest.raises(NameRefusedError, match="longer than the disk allows"):
        huge.restore_file(source, str(tmp_path / ("x" * 300 + ".tif")), repeated())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_a_full_disk_is_said(tmp_path, small_limit):
    def full(source, sink, shape, rows=None):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"b\.tif.*full"):
        huge.restore_file(tiled(tmp_path / "a.tif", pixels()), str(tmp_path / "b.tif"), full)


class Repeating:
    """Restores what can be held by one way and what cannot by another."""

    restore_parts = staticmethod(repeated())

    def __call__(self, whole):
        raise AssertionError("held a photo that is too large")


def test_the_stream_takes_a_huge_photo_by_parts(tmp_path, small_limit):
    (tmp_path / "in").mkdir()
    tiled(tmp_path / "in" / "a.tif", pixels())
    stage = Stage(
        source=str(tmp_path / "in"), target=str(tmp_path / "out"), load=Repeating, known=()
    )
    receipt = RestoreActor(stage)({"key": "a.tif", "target_key": "a.tif", "etag": "1"})
    assert (receipt["status"], receipt["height"], receipt["width"]) == ("restored", 700, 530)
    written = (tmp_path / "out" / "a.tif").read_bytes()
    assert receipt["sha256"] == hashlib.sha256(written).hexdigest()
    refused = RestoreActor(stage)({"key": "a.tif", "target_key": "a.jpg", "etag": "1"})
    assert "too large for anything else; use .tif" in refused["reason"]


def peak_bytes(height):
    """Return by how much this process grows for a photo of so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        path, rows = Path(folder) / "a.tif", pixels(1000, 2000)
        with path.open("wb") as file:
            whole = Mosaic(file, height, 2000)
            for _ in range(height // 1000):
                whole.write(rows)
            whole.close(None, {0: {}})
        call = partial(huge.restore_file, str(path), f"{folder}/b.tif", repeated())
        return grown_bytes(call)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_height():
    low, high = (elsewhere(peak_bytes, GIVE_BACK, height=each) for each in (4000, 16000))
    assert high < 1.25 * low
    assert high < 4000 * 2000 * 3


def test_only_a_tiff_is_huge(tmp_path, small_limit):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    (tmp_path / "c.tif").write_bytes(images.encode(Photo(pixels(20, 30)), ".tif"))
    assert not any(huge.huge_size(str(tmp_path / name)) for name in ("a.png", "b.tif", "c.tif"))
    with pytest.raises(ImageError, match="too large for anything else"):
        huge.restore_file(str(tmp_path / "c.tif"), str(tmp_path / "c.png"), repeated())
