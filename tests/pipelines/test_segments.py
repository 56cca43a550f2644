"""TIFF in all its layouts, read by Pillow or written by tifffile to compare."""

import io
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from pipelines import images, segments, tiff
from pipelines.errors import ImageError
from pipelines.images import Photo
from pipelines.regions import Region
from tests.pipelines.test_regions import regions_inside

HEIGHT, WIDTH = 40, 60


def noise(channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    shape = (HEIGHT, WIDTH, channels)
    return np.random.default_rng(0).integers(0, top, shape, dtype=dtype)


def smooth():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack((x * 4, y * 6, (x + y) * 2), axis=2).astype(np.uint8)


def written(samples, **options):
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def tiled(pixels, tile, **options):
    """Return a TIFF of tiles that Pillow packed one by one, which tifffile alone cannot."""
    height, width = tile
    blobs, entries = [], {}
    down, across = -(-HEIGHT // height), -(-WIDTH // width)
    for row, column in itertools.product(range(down), range(across)):
        part = pixels[row * height :, column * width :][:height, :width]
        pad = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
        image = Image.fromarray(np.pad(part, pad, mode="edge").squeeze())
        page = tiff.parse(saved(image, strip_size=2**20, **options))
        start, num_bytes = page.value(tiff.STRIP_OFFSETS), page.value(tiff.STRIP_BYTES)
        blobs.append(page.data[start : start + num_bytes])
        entries = {tag: page.entries[tag] for tag in tiff.DECODING if tag in page.entries}
    data = tiff.excerpt("<", entries, (HEIGHT, WIDTH), height, blobs)
    page = tiff.parse(data)
    entries = page.entries | {
        tiff.TILE_HEIGHT: tiff.longs("<", height),
        tiff.TILE_WIDTH: tiff.longs("<", width),
        tiff.TILE_OFFSETS: page.entries[tiff.STRIP_OFFSETS],
        tiff.TILE_BYTES: page.entries[tiff.STRIP_BYTES],
    }
    for tag in (tiff.STRIP_OFFSETS, tiff.STRIP_BYTES, tiff.ROWS_PER_STRIP):
        del entries[tag]
    return (
        data[:4] + struct.pack("<I", len(data)) + data[8:] + tiff.directory("<", entries, len(data))
    )


LAYOUTS = [
    {},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "planarconfig": "separate"},
    {"tile": (16, 32)},
    {"tile": (16, 16), "planarconfig": "separate"},
]
PACKINGS = [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}]
KINDS = [
    (1, {"photometric": "minisblack"}),
    (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    (3, {"photometric": "rgb"}),
    (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize(("channels", "kind"), KINDS, ids=str)
def test_every_layout(layout, packing, channels, kind):
    for dtype, (byteorder, bigtiff) in itertools.product(
        (np.uint8, np.uint16), (("<", False), (">", True))
    ):
        samples = noise(channels, dtype)
        planar = {"planarconfig": "contig"} | layout if channels > 1 else dict(layout)
        if channels == 1:
            planar.pop("planarconfig", None)
        stored = samples[:, :, 0] if channels == 1 else samples
        if planar.get("planarconfig") == "separate":
            stored = np.moveaxis(samples, 2, 0)
        data = written(stored, byteorder=byteorder, bigtiff=bigtiff, **planar, **packing, **kind)
        photo = images.decode(data)
        colours = samples[:, :, : 3 if channels > 2 else 1]
        np.testing.assert_array_equal(photo.pixels, colours)
        assert photo.pixels.dtype == dtype
        assert (photo.alpha is not None) == (channels in (2, 4))
        if photo.alpha is not None:
            np.testing.assert_array_equal(photo.alpha, samples[:, :, -1])


COMPRESSIONS = ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"]
STRIPS = [
    (compression, mode)
    for compression in COMPRESSIONS
    for mode in ("L", "LA", "RGB", "RGBA", "CMYK")
    if not (compression == "jpeg" and "A" in mode)
]
TILES = [(compression, mode) for compression, mode in STRIPS if mode in ("L", "RGB", "RGBA")]


def assert_like_pillow(data, tolerance):
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGBA")).astype(int)
    photo = images.decode(data)
    assert np.abs(photo.rgb - expected[:, :, :3]).max() <= tolerance
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, expected[:, :, 3])


@pytest.mark.parametrize(("compression", "mode"), STRIPS)
def test_strips_of_every_compression(compression, mode):
    image = Image.fromarray(smooth()).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(smooth()[:, :, 1]))
    data = saved(image, compression=compression, strip_size=1000)
    assert len(tiff.parse(data).values(tiff.STRIP_OFFSETS)) > 1
    assert_like_pillow(data, tolerance=2 if compression == "jpeg" or mode == "CMYK" else 0)


@pytest.mark.parametrize(("compression", "mode"), TILES)
def test_tiles_of_every_compression(compression, mode):
    pixels = np.asarray(Image.fromarray(smooth()).convert(mode)).reshape(HEIGHT, WIDTH, -1)
    data = tiled(pixels, (16, 32), compression=compression)
    assert_like_pillow(data, tolerance=2 if compression == "jpeg" else 0)


@pytest.mark.parametrize("compression", ["raw", "group3", "group4", "packbits", "tiff_lzw"])
def test_one_bit(compression):
    image = Image.fromarray(smooth()).convert("1")
    photo = images.decode(saved(image, compression=compression))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], np.asarray(image) * 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(dtype):
    samples = noise(1, dtype)[:, :, 0]
    photo = images.decode(written(samples, photometric="miniswhite"))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], np.iinfo(dtype).max - samples)


def test_palette():
    image = Image.fromarray(smooth()).quantize(16)
    np.testing.assert_array_equal(
        images.decode(saved(image, compression="tiff_lzw")).pixels, image.convert("RGB")
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_that_is_multiplied_in_is_divided_out(dtype):
    top = np.iinfo(dtype).max
    rgba = noise(4, dtype)
    alpha = rgba[:, :, 3:] // 2 + top // 2
    multiplied = np.rint(rgba[:, :, :3] * (alpha / top)).astype(dtype)
    data = written(np.dstack((multiplied, alpha)), photometric="rgb", extrasamples=["assocalpha"])
    difference = images.decode(data).pixels.astype(int) - rgba[:, :, :3]
    assert np.abs(difference).max() <= 2


def test_16_bit_cmyk():
    inks = noise(4, np.uint16)
    photo = images.decode(written(inks, photometric="separated"))
    left = 65535 - inks.astype(np.int64)
    np.testing.assert_array_equal(photo.pixels, left[:, :, :3] * left[:, :, 3:] // 65535)


def test_first_page():
    pages = np.stack((noise(), noise() // 2))
    photo = images.decode(written(pages, photometric="rgb"))
    np.testing.assert_array_equal(photo.pixels, noise())


def test_more_batches_give_the_same(monkeypatch):
    data = written(noise(), photometric="rgb", tile=(16, 16), compression="zlib")
    monkeypatch.setattr(segments, "_BATCH_PIXELS", 1)
    np.testing.assert_array_equal(images.decode(data).pixels, noise())


FILES = {
    "strips": lambda: images.encode(
        Photo(noise(3, np.uint16), noise(1, np.uint16)[:, :, 0]), ".tif"
    ),
    "planes": lambda: written(
        np.moveaxis(noise(), 2, 0), photometric="rgb", planarconfig="separate", rowsperstrip=7
    ),
    "tiles": lambda: tiled(noise(), (16, 16), compression="tiff_lzw"),
    "grey alpha": lambda: written(
        noise(2), planarconfig="contig", extrasamples=["unassalpha"], tile=(16, 32)
    ),
    "jpeg strips": lambda: saved(Image.fromarray(smooth()), compression="jpeg", strip_size=2000),
    "jpeg tiles": lambda: tiled(smooth(), (16, 32), compression="jpeg"),
    "one bit": lambda: saved(
        Image.fromarray(smooth()).convert("1"), compression="group4", strip_size=64
    ),
    "palette": lambda: saved(Image.fromarray(smooth()).quantize(16), strip_size=500),
    "turned": lambda: saved(Image.fromarray(smooth()), tiffinfo={274: 6}),
    "mirrored": lambda: saved(Image.fromarray(smooth()), tiffinfo={274: 7}, strip_size=500),
}


@pytest.mark.parametrize("name", FILES)
def test_region_is_cut_from_the_whole(name):
    data = FILES[name]()
    whole = images.decode(data)

    @given(region=regions_inside(*whole.pixels.shape[:2]))
    def holds(region):
        part = images.decode_region(data, region)
        np.testing.assert_array_equal(part.pixels, region.cut(whole.pixels))
        assert (part.alpha is None) == (whole.alpha is None)
        if part.alpha is not None:
            np.testing.assert_array_equal(part.alpha, region.cut(whole.alpha))

    holds()


@pytest.mark.parametrize(
    ("options", "most"), [({"rowsperstrip": 8}, 2 * 8 * 60), ({"tile": (16, 16)}, 4 * 16 * 16)]
)
def test_region_takes_the_touched_segments_alone(options, most, monkeypatch):
    data = written(noise(), photometric="rgb", **options)
    taken = []
    segment = segments._segment
    monkeypatch.setattr(segments, "_segment", lambda *a: taken.append(segment(*a)) or taken[-1])
    region = Region(20, 30, 8, 8)
    part = images.decode_region(data, region, max_pixels=64)
    np.testing.assert_array_equal(part.pixels, region.cut(noise()))
    assert sum(map(len, taken)) <= 3 * most


def test_one_huge_strip_is_refused():
    data = written(np.zeros((4, 6), np.uint8))
    page = tiff.parse(data)
    entries = page.entries | {
        tag: tiff.longs("<", 20000) for tag in (tiff.WIDTH, tiff.HEIGHT, tiff.ROWS_PER_STRIP)
    }
    data = data[:4] + struct.pack("<I", len(data)) + data[8:]
    data += tiff.directory("<", entries, len(data))
    with pytest.raises(ImageError, match="a strip or tile of 20000 x 20000 pixels is above"):
        images.decode_region(data, Region(0, 0, 8, 8))


def test_a_damaged_strip_is_an_error():
    data = bytearray(written(smooth(), photometric="rgb", compression="zlib"))
    start = tiff.parse(bytes(data)).value(tiff.STRIP_OFFSETS)
    data[start + 100] ^= 0xFF
    with pytest.raises(ImageError, match="damaged: a strip or tile"):
        images.decode(bytes(data))


def test_region_outside_is_an_error():
    data = images.encode(Photo(noise()), ".tif")
    with pytest.raises(ImageError, match="reaches out of the image of 40 rows, 60 columns"):
        images.decode_region(data, Region(0, 0, 41, 1))
