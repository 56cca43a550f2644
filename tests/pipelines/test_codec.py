"""Broken files of every format: a photo or a reason, and nothing on stderr."""

import contextlib
import io
import os
import random
import re
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from pipelines import codec, images
from pipelines.errors import ImageError
from pipelines.images import Photo
from pipelines.regions import Region

ROUNDS = 60


def smooth():
    y, x = np.mgrid[:24, :30]
    return np.stack((x * 8, y * 10, (x + y) * 4), axis=2).astype(np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def samples():
    """Return a small file of every kind that is read."""
    image = Image.fromarray(smooth())
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [image.rotate(90)]}
    described = {"exif": exif, "icc_profile": bytes(36) + b"acsp" + bytes(100)}
    deep = Photo(smooth().astype(np.uint16) * 257, smooth()[:, :, 0].astype(np.uint16))
    return {
        "png": saved(image, "PNG", **described),
        "png palette": saved(image.quantize(16), "PNG", bits=4, transparency=3),
        "png 1 bit": saved(image.convert("1"), "PNG"),
        "png grey alpha": saved(image.convert("LA"), "PNG"),
        "png 16 bits": images.encode(deep, ".png"),
        "apng": saved(image, "PNG", **more),
        "jpeg": saved(image, "JPEG", **described),
        "jpeg progressive": saved(image, "JPEG", progressive=True, quality=95),
        "jpeg cmyk": saved(image.convert("CMYK"), "JPEG"),
        "tiff": saved(image, "TIFF", **described),
        "tiff 16 bits": images.encode(deep, ".tif"),
        "tiff lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff fax": saved(image.convert("1"), "TIFF", compression="group4"),
        "tiff grey alpha": saved(image.convert("LA"), "TIFF", compression="packbits"),
        "webp": saved(image, "WEBP", **described),
        "webp lossless": saved(image.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": saved(image, "WEBP", **more),
        "bmp": saved(image, "BMP"),
        "bmp palette": saved(image.quantize(16), "BMP"),
    }


FILES = samples()


def damaged(data, generator):
    if generator.random() < 0.25:
        return data[: generator.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(generator.randint(1, 3)):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_a_photo_or_a_reason(name, capfd):
    generator = random.Random(name)
    assert images.decode(FILES[name]).pixels.shape[2] in (1, 3)
    for _ in range(ROUNDS):
        data = damaged(FILES[name], generator)
        for read in (
            images.decode,
            lambda data: images.decode(data, profile="srgb"),
            lambda data: images.decode_region(data, Region(3, 5, 8, 9)),
        ):
            with contextlib.suppress(ImageError):
                assert read(data).pixels.size
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("png ", "apng"))])
def test_no_change_of_a_png_goes_unnoticed(name):
    whole = images.decode(FILES[name])
    generator = random.Random(name)
    for _ in range(ROUNDS):
        with contextlib.suppress(ImageError):
            photo = images.decode(damaged(FILES[name], generator))
            np.testing.assert_array_equal(photo.rgb, whole.rgb)


def test_a_jpeg_that_libjpeg_complains_of_is_an_error(capfd):
    data = bytearray(FILES["jpeg"])
    start = data.index(b"\xff\xda") + 14
    data[start + 40 : start + 60] = bytes(20)
    with pytest.raises(ImageError, match=r"damaged: Corrupt JPEG data: .*; copy it again"):
        images.decode(bytes(data))
    assert capfd.readouterr() == ("", "")


def test_padding_before_the_end_of_a_jpeg_is_none(capfd):
    data = FILES["jpeg"]
    padded = data[:-2] + bytes(16) + data[-2:]
    np.testing.assert_array_equal(images.decode(padded).pixels, images.decode(data).pixels)
    assert capfd.readouterr() == ("", "")


def test_overhearing_passes_on_what_others_say(capfd):
    def call():
        os.write(2, b"mine: a\nyours: b\nmine: c\n")
        return 5

    assert codec._overhear(call, re.compile("mine")) == (5, ["mine: a", "mine: c"])
    assert capfd.readouterr().err == "yours: b\n"


def test_overhearing_ends_with_the_call(capfd):
    def call():
        os.write(2, b"yours: before\n")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        codec._overhear(call, re.compile("mine"))
    os.write(2, b"yours: after\n")
    assert capfd.readouterr().err == "yours: before\nyours: after\n"


def test_jpegs_in_threads(capfd):
    good, bad = FILES["jpeg"], bytearray(FILES["jpeg"])
    start = bad.index(b"\xff\xda") + 54
    bad[start : start + 20] = bytes(20)
    expected = images.decode(good).pixels
    wrong = []

    def work():
        for _ in range(30):
            if not (images.decode(good).pixels == expected).all():
                wrong.append("pixels")
            try:
                images.decode(bytes(bad))
                wrong.append("no error")
            except ImageError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("marker", "bits", "reason"),
    [
        (0xC3, 8, "JPEG of a rare kind (8 bits, marker FFC3)"),  # lossless
        (0xC5, 8, "JPEG of a rare kind (8 bits, marker FFC5)"),  # hierarchical
        (0xC1, 12, "JPEG of a rare kind (12 bits, marker FFC1)"),
    ],
)
def test_rare_jpeg(marker, bits, reason):
    data = bytearray(FILES["jpeg"])
    start = data.index(b"\xff\xc0")
    data[start + 1], data[start + 4] = marker, bits
    with pytest.raises(ImageError, match=re.escape(reason)):
        images.decode(bytes(data))


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_an_unknown_critical_chunk_of_a_png_is_an_error(capfd):
    data = FILES["png"]
    with pytest.raises(ImageError, match="a chunk b'ABCD' of an unknown kind"):
        images.decode(data[:33] + chunk(b"ABCD", b"x") + data[33:])
    assert images.decode(data[:33] + chunk(b"abCd", b"x") + data[33:]).pixels.size
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["apng", "webp animated"])
def test_first_frame(name):
    difference = images.decode(FILES[name]).pixels.astype(int) - smooth()
    assert np.abs(difference).max() <= (0 if name == "apng" else 40)


@pytest.mark.parametrize(("mode", "level"), [("1", 255), ("L", 77), ("I;16", 1234)])
def test_transparent_level_of_a_grey_png(mode, level):
    pixels = np.full((4, 6), level, np.uint16 if mode == "I;16" else np.uint8)
    pixels[1:3, 2:4] = 0
    image = Image.fromarray(pixels) if mode != "1" else Image.fromarray(pixels).convert("1")
    plain = saved(image, "PNG")
    key = struct.pack(">H", 1 if mode == "1" else level)
    photo = images.decode(plain[:33] + chunk(b"tRNS", key) + plain[33:])
    assert photo.pixels.shape == (4, 6, 1)
    top = np.iinfo(photo.pixels.dtype).max
    np.testing.assert_array_equal(photo.alpha, np.where(pixels == level, 0, top))
    assert photo.alpha.dtype == photo.pixels.dtype


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits(bits):
    image = Image.fromarray(smooth()).quantize(2**bits)
    data = saved(image, "PNG", bits=bits)
    np.testing.assert_array_equal(images.decode(data).pixels, np.asarray(image.convert("RGB")))


def test_interlaced_png():
    """Adam7: seven passes, each with its first row and column and its steps."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4))
    passes += ((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    body = b"".join(
        b"\0" + row.tobytes() for y, x, down, right in passes for row in smooth()[y::down, x::right]
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 24, 8, 2, 0, 0, 1))
    data = chunk(b"IDAT", zlib.compress(body))
    photo = images.decode(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    np.testing.assert_array_equal(photo.pixels, smooth())


def test_absurd_sides_are_refused():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**21, 1, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="2097152 x 1 pixels; a side has from 1 to 1048576"):
        images.decode(data)
    empty = struct.pack(">IIBBBBB", 0, 1, 8, 2, 0, 0, 0)
    with pytest.raises(ImageError, match="0 x 1 pixels; a side has from 1"):
        images.decode(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", empty) + chunk(b"IEND", b""))


@pytest.mark.parametrize("name", FILES)
def test_region_of_every_kind_is_cut_from_the_whole(name):
    whole = images.decode(FILES[name])
    region = Region(3, 5, 8, 9)
    part = images.decode_region(FILES[name], region)
    np.testing.assert_array_equal(part.pixels, region.cut(whole.pixels))
    assert (part.alpha is None) == (whole.alpha is None)
    if part.alpha is not None:
        np.testing.assert_array_equal(part.alpha, region.cut(whole.alpha))
    with pytest.raises(ImageError, match="reaches out of the image"):
        images.decode_region(FILES[name], Region(0, 0, 31, 31))


def test_the_content_decides_not_the_name():
    assert images.decode(FILES["webp"]).pixels.shape == (30, 24, 3)
    assert images.encode(images.decode(FILES["webp"]), ".PNG")[1:4] == b"PNG"
