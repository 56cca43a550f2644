import contextlib
import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageOps

from pipelines import images
from pipelines.errors import ImageError
from pipelines.images import Photo

EXACT = (".png", ".tif", ".tiff")
DTYPES = (np.uint8, np.uint16)


@st.composite
def photos(draw, dtypes=DTYPES):
    dtype = draw(st.sampled_from(dtypes))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    shape = (height, width, draw(st.sampled_from((1, 3))))
    with_alpha = draw(st.booleans())
    return Photo(
        pixels=draw(npst.arrays(dtype, shape)),
        alpha=draw(npst.arrays(dtype, shape[:2])) if with_alpha else None,
    )


def assert_same(photo, other):
    np.testing.assert_array_equal(photo.rgb, other.rgb)
    assert photo.pixels.dtype == other.pixels.dtype
    assert (photo.alpha is None) == (other.alpha is None)
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, other.alpha)


def noise(height=40, width=60, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, top, (height, width, channels), dtype=dtype)


def smooth(height=40, width=60):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = np.stack((x / width, y / height, (x + y) / (height + width)), axis=2)
    return (planes * 255).astype(np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@given(photo=photos(), suffix=st.sampled_from(EXACT))
def test_png_and_tiff_are_exact(photo, suffix):
    again = images.decode(images.encode(photo, suffix))
    assert_same(photo, again)
    if photo.alpha is None:
        assert again.pixels.shape == photo.pixels.shape


@given(photo=photos(dtypes=(np.uint8,)), suffix=st.sampled_from((".webp", ".bmp")))
def test_webp_and_bmp_are_exact_in_8_bits(photo, suffix):
    # WebP leaves out alpha that is opaque everywhere: the same photo, for None is opaque.
    opaque = suffix == ".webp" and photo.alpha is not None and (photo.alpha == 255).all()
    expected = Photo(photo.pixels) if opaque else photo
    assert_same(expected, images.decode(images.encode(photo, suffix)))


@given(photo=photos(dtypes=(np.uint8,)), suffix=st.sampled_from((".jpg", ".JPEG")))
def test_jpeg_keeps_shape_and_drops_alpha(photo, suffix):
    again = images.decode(images.encode(photo, suffix))
    assert (again.pixels.shape, again.pixels.dtype) == (photo.pixels.shape, np.uint8)
    assert again.alpha is None


def test_jpeg_is_close_and_without_subsampling():
    photo = Photo(smooth())
    data = images.encode(photo, ".jpg")
    difference = np.abs(images.decode(data).pixels.astype(int) - photo.pixels)
    assert difference.max() <= 6
    with Image.open(io.BytesIO(data)) as image:
        assert [sampling for _, *sampling, _ in image.layer] == [[1, 1]] * 3


def test_encode_leaves_its_input_alone():
    pixels, alpha = noise(), noise()[:, :, 0].copy()
    pixels.flags.writeable = alpha.flags.writeable = False
    for suffix in images.SUFFIXES:
        images.encode(Photo(pixels[::-1, ::2], alpha[::-1, ::2]), suffix)
    np.testing.assert_array_equal(pixels, noise())


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".bmp"])
def test_16_bits_do_not_fit(suffix):
    with pytest.raises(ImageError, match=rf"do not fit into \{suffix}; use \.png or \.tif"):
        images.encode(Photo(noise(dtype=np.uint16)), suffix)


def test_encode_errors():
    with pytest.raises(ImageError, match=r"'\.gif' is none of \.png, \.jpg"):
        images.encode(Photo(noise()), ".gif")
    with pytest.raises(ImageError, match=r"16384 x 1 pixels, but \.webp holds 16383 a side"):
        images.encode(Photo(np.zeros((1, 16384, 3), np.uint8)), ".webp")


@pytest.mark.parametrize(
    ("pixels", "alpha", "message"),
    [
        (np.zeros((2, 3, 3)), None, "pixels are float64; scale and round"),
        (np.zeros((2, 3), np.uint8), None, r"shape \(2, 3\); give \(H, W, 3\)"),
        (np.zeros((0, 3, 3), np.uint8), None, r"shape \(0, 3, 3\)"),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2), np.uint8), r"give \(2, 3\) uint8"),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint16), r"give \(2, 3\) uint8"),
    ],
)
def test_photo_is_checked(pixels, alpha, message):
    with pytest.raises(ImageError, match=message):
        Photo(pixels, alpha)


def test_rgb():
    grey = noise(channels=1)
    rgb = Photo(grey).rgb
    assert rgb.shape == (40, 60, 3)
    assert all((rgb[:, :, channel] == grey[:, :, 0]).all() for channel in range(3))
    assert Photo(noise()[:, ::2]).rgb.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    exif[0x0112] = orientation
    data = saved(Image.fromarray(smooth()), kind, exif=exif, quality=100, lossless=True)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = images.decode(data).pixels
    assert pixels.shape == expected.shape
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_orientation_turns_alpha_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = noise(channels=4)
    photo = images.decode(saved(Image.fromarray(rgba), "PNG", exif=exif))
    np.testing.assert_array_equal(photo.pixels, np.rot90(rgba[:, :, :3], -1))
    np.testing.assert_array_equal(photo.alpha, np.rot90(rgba[:, :, 3], -1))


MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "TIFF": ["1", "L", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB"],
    "WEBP": ["1", "L", "LA", "P", "RGB", "RGBA"],
}


@pytest.mark.parametrize(("kind", "mode"), [(k, m) for k, modes in MODES.items() for m in modes])
def test_foreign_files(mode, kind):
    """Files of another library, among them TIFF with alpha that is not multiplied in."""
    rgba = Image.fromarray(noise(channels=4))
    image = rgba.convert("RGB").quantize(16) if mode == "P" else rgba.convert(mode)
    photo = images.decode(saved(image, kind, lossless=True, exact=True))
    np.testing.assert_array_equal(photo.rgb, np.asarray(image.convert("RGB")))
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(photo.alpha, np.asarray(image.getchannel("A")))
    else:
        assert photo.alpha is None
    if mode in ("1", "L", "LA") and kind != "WEBP":
        assert photo.pixels.shape[2] == 1


def test_cmyk():
    cmyk = Image.fromarray(smooth()).convert("CMYK")
    expected = np.asarray(cmyk.convert("RGB")).astype(int)
    for data in (saved(cmyk, "TIFF"), saved(cmyk, "JPEG", quality=100)):
        photo = images.decode(data)
        assert photo.alpha is None
        assert np.abs(photo.pixels - expected).max() <= 4


def test_palette_with_transparency():
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    photo = images.decode(saved(image, "PNG", transparency=1))
    assert photo.pixels[0, 0].tolist() == [10, 20, 30]
    assert photo.alpha.max() == 0


def tiff(samples, **options):
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiff_with_straight_alpha(dtype, byteorder, bigtiff):
    rgba = noise(channels=4, dtype=dtype)
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    photo = images.decode(tiff(rgba, byteorder=byteorder, bigtiff=bigtiff, **options))
    np.testing.assert_array_equal(photo.pixels, rgba[:, :, :3])
    np.testing.assert_array_equal(photo.alpha, rgba[:, :, 3])


@pytest.mark.parametrize(
    ("samples", "options", "reason"),
    [
        (np.zeros((4, 6), np.float32), {}, "float, 32 bits; save it with unsigned 8 or 16"),
        (np.zeros((4, 6), np.float16), {}, "float, 16 bits"),
        (np.zeros((4, 6), np.int16), {}, "signed, 16 bits"),
        (np.zeros((4, 6), np.uint32), {}, "unsigned, 32 bits"),
        (
            np.zeros((4, 6, 5), np.uint8),
            {"photometric": "rgb", "planarconfig": "contig"},
            "with 5 samples a pixel",
        ),
        (np.zeros((4, 6, 3), np.uint16), {"photometric": "cielab"}, "photometric kind 8"),
    ],
)
def test_tiff_that_would_come_out_wrong(samples, options, reason):
    with pytest.raises(ImageError, match=reason):
        images.decode(tiff(samples, **options))


def png_of(width, height):
    """Return a well-formed PNG header that claims a size, with next to no data behind it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def claiming(suffix, width, height):
    """Return a small file whose header claims another size."""
    if suffix == ".png":
        return png_of(width, height)
    data = bytearray(images.encode(Photo(smooth(8, 8)), suffix))
    if suffix == ".jpg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif suffix == ".bmp":
        struct.pack_into("<ii", data, 18, width, height)
    elif suffix == ".webp":
        data = bytearray(b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0")
        data += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    else:
        for tag, value in ((256, width), (257, height)):
            # Tag, type SHORT or LONG, one value, which the entry itself holds.
            entry = re.search(struct.pack("<H", tag) + rb"[\x03\x04]\0\x01\0\0\0", data)
            struct.pack_into("<H", data, entry.end(), value)
    return bytes(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_size_is_bounded_before_decoding(suffix, monkeypatch):
    def never(*_args):
        pytest.fail("the decoder was called")

    for name in ("imdecode", "imdecodeWithMetadata"):
        monkeypatch.setattr(cv2, name, never)
    message = rf"20000 x 15000 = 300000000 pixels, above the limit of {2**28}"
    with pytest.raises(ImageError, match=message):
        images.decode(claiming(suffix, 20000, 15000))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
def test_size_of_each_webp_header(mode, lossless):
    """VP8 (lossy), VP8L (lossless) and VP8X (lossy with alpha) state it differently."""
    image = Image.new(mode, (123, 77), (1, 2, 3, 128)[: len(mode)])
    data = saved(image, "WEBP", lossless=lossless)
    assert images.decode(data, max_pixels=123 * 77).pixels.shape == (77, 123, 3)
    with pytest.raises(ImageError, match="123 x 77"):
        images.decode(data, max_pixels=123 * 77 - 1)


def assert_no_part_is_taken_for_the_whole(data, capfd):
    whole = images.decode(data)
    last = range(max(0, len(data) - 8), len(data))
    for num_bytes in (*range(0, len(data), 1 + len(data) // 60), *last):
        try:
            part = images.decode(data[:num_bytes])
        except ImageError:
            continue
        # The end of a TIFF may be the pointer to a next page, which nothing needs.
        assert data[num_bytes:].count(0) == len(data) - num_bytes
        assert_same(whole, part)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", images.SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3])
def test_truncated_is_an_error(suffix, channels, capfd):
    photo = Photo(smooth()[:, :, :channels])
    assert_no_part_is_taken_for_the_whole(images.encode(photo, suffix), capfd)


def test_truncated_progressive_jpeg_is_an_error(capfd):
    data = saved(Image.fromarray(smooth()), "JPEG", progressive=True)
    assert_no_part_is_taken_for_the_whole(data, capfd)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes: the file is empty"),
        (b"hello world, this is no image", "starts with b'hello wo': not a PNG, JPEG, TIFF"),
        (b"BM is how this letter to a friend begins", "not a PNG"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "truncated, or its header is damaged"),
        (b"\xff\xd8\xff\xe0", "truncated, or its header is damaged"),
        (b"\xff\xd8\xff\xe0\0\x04ab no marker", "damaged: no marker at byte 8"),
        (b"II*\0\xff\xff\xff\xff", "truncated, or its header is damaged"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "truncated, or its header is damaged"),
        (b"MM\0*\0\0\0\x08\0\0\0\0\0\0", "truncated, or its header is damaged"),
    ],
)
def test_no_image(data, reason):
    with pytest.raises(ImageError, match=reason):
        images.decode(data)


@given(data=st.data())
def test_damage_is_an_image_or_an_error(data):
    suffix = data.draw(st.sampled_from(images.SUFFIXES))
    damaged = bytearray(images.encode(Photo(smooth(9, 12)), suffix))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged), 200) - 1))] = data.draw(
            st.integers(0, 255)
        )
    with contextlib.suppress(ImageError):
        assert images.decode(bytes(damaged)).pixels.size


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "has_alpha"),
    [
        ("00017_gray.png", (351, 500, 1), np.uint8, False),
        ("16-bit-grey-alpha.png", (96, 109, 1), np.uint16, True),
        ("children-alpha.png", (350, 566, 3), np.uint8, True),
        ("tree_alpha_16bit.png", (256, 342, 3), np.uint16, True),
        ("Channel_digital_image_CMYK_color.jpg", (333, 500, 3), np.uint8, False),
        ("Portrait_6.jpg", (600, 450, 3), np.uint8, False),
    ],
)
def test_edge_cases(shared_data, name, shape, dtype, has_alpha):
    data = (shared_data / "edge_cases" / name).read_bytes()
    photo = images.decode(data)
    assert (photo.pixels.shape, photo.pixels.dtype) == (shape, dtype)
    assert (photo.alpha is not None) == has_alpha
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        # Pillow reads 16-bit colour by its high bytes, and CMYK as plainly as OpenCV.
        high = np.asarray(upright.convert("RGB")).astype(int)
    difference = np.abs((photo.rgb >> (8 * (dtype().itemsize - 1))) - high)
    assert difference.max() <= 3
    for suffix in (".png", ".tif"):
        assert_same(photo, images.decode(images.encode(photo, suffix)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("corrupt-header.jpg", "truncated, or its header is damaged; copy it again"),
        ("truncated.jpg", "truncated, damaged or of a rare kind; copy it again"),
        ("truncated.png", "truncated, or its header is damaged; copy it again"),
        ("zero_byte.png", "0 bytes: the file is empty; copy it again"),
    ],
)
def test_broken_edge_cases(shared_data, name, reason, capfd):
    with pytest.raises(ImageError, match=reason):
        images.decode((shared_data / "edge_cases" / name).read_bytes())
    assert capfd.readouterr() == ("", "")
