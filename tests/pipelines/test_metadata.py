"""What a file says of its picture goes along, and says what is true of the restored one."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipelines import exif, faithful, images, metadata
from pipelines.images import Photo
from pipelines.metadata import Metadata

NOTES = b"maker notes that point somewhere"
XMP = b'<x:xmpmeta><rdf tiff:Orientation="6" tiff:ImageWidth="7" dc:creator="Ada"/></x:xmpmeta>'
KINDS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF"}


def said(orientation=6):
    """Return EXIF with a camera, a place, notes and sizes, as Pillow writes it."""
    block = Image.Exif()
    block[271], block[272], block[315] = "Maker", "Model 7", "Ada"
    block[274], block[282], block[283], block[296] = orientation, 300.0, 300.0, 2
    camera = block.get_ifd(34665)
    camera |= {33434: 0.005, 36867: "2026:01:02 03:04:05", 37500: NOTES, 40962: 60, 40963: 40}
    block.get_ifd(34853)[1] = "N"
    return block.tobytes()


def with_thumbnail(block):
    """Return EXIF with a second directory whose picture is at the end."""
    start, picture = len(block), b"\xff\xd8 a small picture \xff\xd9"
    at = start + 2 + 2 * 12 + 4
    entries = struct.pack(">HHIIHHII", 513, 4, 1, at, 514, 4, 1, len(picture))
    first = struct.unpack_from(">I", block, 4)[0]
    next_at = first + 2 + 12 * struct.unpack_from(">H", block, first)[0]
    block = block[:next_at] + struct.pack(">I", start) + block[next_at + 4 :]
    return block + struct.pack(">H", 2) + entries + bytes(4) + picture


def saved(kind, **options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def restored(data, suffix, scale=1):
    photo = faithful.opened(data)
    larger = photo.pixels.repeat(scale, 0).repeat(scale, 1)
    return faithful.closed(Photo(larger, profile=photo.profile), suffix, data)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("before", KINDS)
def test_exif_goes_from_every_format_into_every_other(before, after, scale):
    data = saved(KINDS[before], exif=said())
    again = restored(data, after, scale)
    with Image.open(io.BytesIO(again)) as image:
        found = image.getexif()
        camera = found.get_ifd(34665)
        assert image.size == (40 * scale, 60 * scale)
        assert (found[271], found[315]) == ("Maker", "Ada")
        assert found.get(274, 1) == 1
        assert float(found[282]) == 300
        assert found.get_ifd(34853)[1] == "N"
        assert camera[36867] == "2026:01:02 03:04:05"
        assert camera[37500] == NOTES
        assert (camera[40962], camera[40963]) == image.size
    assert images.decode(again).pixels.shape == (60 * scale, 40 * scale, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_xmp_goes_along_and_is_upright(suffix):
    assert metadata.read(saved("PNG")).xmp == b""
    data = metadata.write(saved(KINDS[suffix]), Metadata(xmp=XMP))
    found = metadata.read(restored(data, ".png")).xmp
    assert b'tiff:Orientation="1"' in found
    assert b'tiff:ImageWidth="60"' in found
    assert b'dc:creator="Ada"' in found


@pytest.mark.parametrize("after", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("before", ["JPEG", "PNG", "TIFF"])
def test_resolution_goes_along(before, after):
    again = restored(saved(before, dpi=(300, 150)), after)
    with Image.open(io.BytesIO(again)) as image:
        assert [round(float(side)) for side in image.info["dpi"]] == [300, 150]


def test_notes_stay_where_they_were():
    block = said().removeprefix(b"Exif\0\0")
    assert exif.settled(block, 10, 20).index(NOTES) == block.index(NOTES)


def test_the_thumbnail_is_left_out():
    block = with_thumbnail(said().removeprefix(b"Exif\0\0"))
    assert b"small picture" in block
    data = metadata.write(saved("JPEG"), Metadata(exif=block))
    assert b"small picture" not in restored(data, ".jpg")


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_says_nothing_stays_as_it_was_encoded(suffix):
    data = images.encode(Photo(np.zeros((4, 5, 3), np.uint8)), suffix)
    assert metadata.carried(saved("BMP"), data) == data


@pytest.mark.parametrize("num_bytes", range(0, 300, 7))
def test_damaged_exif_is_left_out_or_harmless(num_bytes):
    data = metadata.write(saved("JPEG"), Metadata(exif=said()[6 : 6 + num_bytes]))
    for suffix in KINDS:
        again = restored(data, suffix)
        assert images.decode(again).pixels.size


def test_exif_too_long_for_a_jpeg_is_left_out():
    data = metadata.write(saved("PNG"), Metadata(exif=said()[6:] + bytes(70000)))
    assert metadata.read(restored(data, ".jpg")).exif == b""
    assert metadata.read(restored(data, ".png")).exif[:2] == said()[6:8]


def test_big_endian_exif_into_a_tiff():
    block = b"MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHII", 271, 2, 6, 38)
    block += struct.pack(">HHIHH", 274, 3, 1, 6, 0) + bytes(4) + b"Maker\0"
    data = metadata.write(saved("JPEG"), Metadata(exif=block))
    with Image.open(io.BytesIO(restored(data, ".tif"))) as image:
        assert image.getexif()[271] == "Maker"
        assert image.size == (40, 60)
