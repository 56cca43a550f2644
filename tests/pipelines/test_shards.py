import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipelines import images, shards
from pipelines.errors import ImageError
from pipelines.images import Photo

DTYPES = (np.uint8, np.uint16)
MAX_OF_PNG = (0, 1, 100)
"""Makes tiles small, some fast, all fast."""


def noise(height=40, width=60, channels=3, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max + 1
    rng = np.random.default_rng(seed)
    return rng.integers(0, top, (height, width, channels), dtype=dtype)


def smooth(height, width, channels=3):
    y, x = np.mgrid[:height, :width]
    planes = [(x + y) // 4, (2 * x + y) // 8, (x + 3 * y) // 16]
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


def message(key, pixels):
    data, [(offset, num_bytes)] = shards.bind([shards.pack(key, pixels)])
    return data[offset : offset + num_bytes]


@st.composite
def pictures(draw):
    shape = draw(st.tuples(st.integers(1, 23), st.integers(1, 23), st.sampled_from((1, 3))))
    return draw(npst.arrays(draw(st.sampled_from(DTYPES)), shape))


@settings(deadline=None)  # the first example also loads the codec
@given(
    pixels=pictures(),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    max_of_png=st.sampled_from(MAX_OF_PNG),
    data=st.data(),
)
def test_crops_are_those_of_the_image(pixels, sides, max_of_png, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "TILE_PX", sides)
        patch.setattr(shards, "MAX_OF_PNG", max_of_png)
        before = pixels.copy()
        tiles = shards.unpack("a.png", message("a.png", pixels))
    np.testing.assert_array_equal(pixels, before)
    assert (tiles.shape, tiles.dtype) == (pixels.shape, pixels.dtype)
    for _ in range(3):
        top = data.draw(st.integers(0, pixels.shape[0] - 1))
        left = data.draw(st.integers(0, pixels.shape[1] - 1))
        height = data.draw(st.integers(1, pixels.shape[0] - top))
        width = data.draw(st.integers(1, pixels.shape[1] - left))
        crop = tiles.crop(top, left, height, width)
        assert crop.dtype == pixels.dtype
        np.testing.assert_array_equal(crop, pixels[top : top + height, left : left + width])
        crop[:] = 7
    np.testing.assert_array_equal(tiles.whole(), pixels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (193, 99), (5, 4097)])
def test_whole_images(dtype, channels, size):
    pixels = noise(*size, channels, dtype)
    np.testing.assert_array_equal(shards.unpack("x", message("x", pixels)).whole(), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_that_were_8_are_stored_as_8(channels):
    pixels = noise(90, 80, channels)
    deep = pixels * np.uint16(257)
    found = message("x", deep)
    assert abs(len(found) - len(message("x", pixels))) < 100
    whole = shards.unpack("x", found).whole()
    assert whole.dtype == np.uint16
    np.testing.assert_array_equal(whole, deep)
    np.testing.assert_array_equal(shards.unpack("x", found).crop(3, 5, 7, 9), deep[3:10, 5:14])


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 59, 2, 2), (39, 0, 2, 1), (0, 0, 0, 1)])
def test_crop_outside_is_refused(box):
    tiles = shards.unpack("x", message("x", noise()))
    with pytest.raises(ValueError, match="are not in an image of 40 x 60; cut inside it"):
        tiles.crop(*box)


def test_only_touched_tiles_are_decoded_and_each_once(monkeypatch):
    monkeypatch.setattr(shards, "TILE_PX", (16, 16))
    pixels, decoded = noise(64, 64), []
    tiles = shards.unpack("x", message("x", pixels))
    decode = shards.tiles.decode
    monkeypatch.setattr(
        shards.tiles, "decode", lambda *args: (decoded.append(args), decode(*args))[1]
    )
    for box, num_decoded in [((0, 0, 16, 16), 1), ((8, 8, 8, 16), 2), ((1, 1, 30, 30), 4)]:
        tiles.crop(*box)
        assert len(decoded) == 2 * num_decoded  # green and colour


def test_the_file_is_plain_arrow():
    batches = [shards.pack(key, noise(200, 300, seed=seed)) for seed, key in enumerate("ab")]
    data, spans = shards.bind(batches)
    reader = pa.ipc.open_file(pa.BufferReader(data))
    assert reader.schema.equals(shards.SCHEMA)
    assert reader.schema.field("base").type == reader.schema.field("colour").type == pa.binary()
    assert [reader.get_batch(index) for index in range(2)] == batches
    for seed, (key, (offset, num_bytes)) in enumerate(zip("ab", spans, strict=True)):
        tiles = shards.unpack(key, data[offset : offset + num_bytes])
        np.testing.assert_array_equal(tiles.whole(), noise(200, 300, seed=seed))


def test_pack_refuses_what_is_no_image():
    with pytest.raises(ImageError, match="float32; scale and round"):
        shards.pack("x", noise().astype(np.float32))
    with pytest.raises(ImageError, match=r"give \(H, W, 3\) or \(H, W, 1\)"):
        shards.pack("x", noise(channels=4))


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("max_of_png", MAX_OF_PNG)
@pytest.mark.parametrize("channels", [1, 3])
def test_no_flipped_byte_makes_a_wrong_pixel(monkeypatch, flip, max_of_png, channels):
    monkeypatch.setattr(shards, "TILE_PX", (4, 4))
    monkeypatch.setattr(shards, "MAX_OF_PNG", max_of_png)
    pixels = smooth(7, 6, channels)
    good = message("dir/a.png", pixels)
    num_found = 0
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= flip
        try:
            whole = shards.unpack("dir/a.png", bytes(bad)).whole()
        except ImageError as found:
            num_found += str(found).startswith("dir/a.png: damaged in its shard: ")
        else:
            num_found += np.array_equal(whole, pixels)
    assert num_found == len(good)


@pytest.mark.parametrize("distance_bytes", [8, 64, 4096, 8192])
def test_swapped_blocks_are_found(distance_bytes):
    good = message("a.png", noise(100, 400))
    start, block = len(good) // 2, min(distance_bytes, 4096)
    other = start + distance_bytes
    bad = bytearray(good)
    bad[start : start + block] = good[other : other + block]
    bad[other : other + block] = good[start : start + block]
    with pytest.raises(ImageError, match=r"a\.png: damaged in its shard: tile 0 does not agree"):
        shards.unpack("a.png", bytes(bad)).whole()


def test_truncation_and_other_bytes_are_found():
    good = message("a.png", smooth(7, 6))
    for num_bytes in range(len(good)):
        with pytest.raises(ImageError, match=r"a\.png: damaged in its shard"):
            shards.unpack("a.png", good[:num_bytes]).whole()
    with pytest.raises(ImageError, match=r"b\.png: damaged in its shard: it holds 'a\.png'"):
        shards.unpack("b.png", good)


def saved(pixels, suffix=".png", alpha=None):
    return images.encode(Photo(pixels, alpha), suffix)


def test_images_that_follow_each_other_are_unpacked_by_one_read():
    pixels = {"a.png": noise(20, 30), "b.png": noise(40, 50, 1), "c.png": noise(8, 9, 3, np.uint16)}
    data, spans = shards.bind([shards.pack(key, image) for key, image in pixels.items()])
    first, (last, num_bytes) = spans[1][0], spans[2]
    found = shards.unpack_all(("b.png", "c.png"), data[first : last + num_bytes])
    np.testing.assert_array_equal(found[0].whole(), pixels["b.png"])
    np.testing.assert_array_equal(found[1].whole(), pixels["c.png"])
    with pytest.raises(ImageError, match=r"c\.png: damaged in its shard"):
        shards.unpack_all(("b.png", "c.png"), data[first:last])


def of_photo(pixels):
    """Return an image in all the ways that a photo comes."""
    yield pixels
    yield pixels[:, :, 1:2].copy()
    yield pixels.astype(np.uint16) * 257
    rng = np.random.default_rng(0)
    yield (pixels * np.uint16(256) + rng.integers(0, 256, pixels.shape, dtype=np.uint16)).copy()


@pytest.mark.parametrize("dataset", ["kodak24", "cbsd68"])
def test_photos_take_at_most_a_tenth_more_than_a_png(shared_data, dataset):
    for path in sorted((shared_data / dataset).glob("*.png"))[::8]:
        for pixels in of_photo(images.decode(path.read_bytes()).rgb):
            tiles = message(path.name, pixels)
            assert len(tiles) < 1.1 * len(saved(pixels))
            np.testing.assert_array_equal(shards.unpack(path.name, tiles).whole(), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_and_smooth_pictures_take_at_most_a_tenth_more_than_a_png(channels):
    for pixels in (noise(400, 600, channels), noise(400, 600, channels, np.uint16)):
        assert len(message("x", pixels)) < 1.1 * len(saved(pixels))
    pixels = smooth(400, 600, channels)
    assert len(message("x", pixels)) < 1.1 * len(saved(pixels)) + 2000  # of Arrow
