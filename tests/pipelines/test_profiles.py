import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pipelines import images, profiles
from pipelines.errors import ImageError
from pipelines.images import Photo

# Under D50, as profiles hold them: Adobe RGB (1998) and Display P3.
ADOBE = [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
P3 = [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]

GAMMA = struct.pack(">4s4xIH", b"curv", 1, 563)
LINEAR = struct.pack(">4s4xI", b"curv", 0)
SRGB_CURVE = struct.pack(
    ">4s4xHxx5i",
    b"para",
    3,
    *(round(x * 65536) for x in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)),
)
SQUARE = struct.pack(
    ">4s4xI1024H", b"curv", 1024, *(round(n**2 / 1023**2 * 65535) for n in range(1024))
)
HEADER = (
    struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    + bytes(12)
    + b"acsp"
    + bytes(28)
    + struct.pack(">3i", 63190, 65536, 54061)
    + bytes(48)
)
TEXT = {b"desc": struct.pack(">4s4xI5s79x", b"desc", 5, b"test\0"), b"cprt": b"text\0\0\0\0none\0"}
WHITE = {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)}


def rgb_profile(matrix, curve):
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), np.array(matrix).T, strict=True)
    tags = {name: profiles._xyz(column) for name, column in columns}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return profiles._packed(HEADER, TEXT | WHITE | tags)


def grey_profile(curve):
    header = HEADER[:16] + b"GRAY" + HEADER[20:]
    return profiles._packed(header, TEXT | WHITE | {b"kTRC": curve})


def tables_profile():
    tags = profiles._tags(PROFILES["adobe"]) | {b"A2B0": bytes(64)}
    return profiles._packed(HEADER, tags)


PROFILES = {
    "adobe": rgb_profile(ADOBE, GAMMA),
    "p3": rgb_profile(P3, SRGB_CURVE),
    "linear": rgb_profile(ADOBE, LINEAR),
    "square": rgb_profile(P3, SQUARE),
}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, top, (40, 60, channels), dtype=dtype)


def through_lcms(pixels, profile):
    target = ImageCms.createProfile("sRGB")
    image = Image.fromarray(pixels)
    return np.asarray(
        ImageCms.profileToProfile(image, io.BytesIO(profile), target, renderingIntent=1)
    )


@pytest.mark.parametrize("name", PROFILES)
def test_8_and_16_bits_agree_with_little_cms(name):
    """Every 8-bit colour that 16 bits can hold exactly, against an implementation not ours."""
    pixels, profile = noise(), PROFILES[name]
    expected = through_lcms(pixels, profile).astype(int)
    eight = profiles.to_srgb(pixels, profile)
    assert eight.dtype == np.uint8
    assert np.abs(eight - expected).max() <= 1
    sixteen = profiles.to_srgb(pixels.astype(np.uint16) * 257, profile)
    assert sixteen.dtype == np.uint16
    assert np.abs(sixteen / 257 - expected).max() <= 1


def test_16_bits_are_the_formula():
    pixels = noise(dtype=np.uint16)
    linear = (pixels / 65535) ** (563 / 256)
    # Profiles hold 16 binary places.
    matrix = np.rint(np.array(ADOBE) * 65536) / 65536
    srgb = np.clip(linear @ matrix.T @ profiles._XYZ_TO_SRGB.T, 0, 1)
    bright = 1.055 * np.maximum(srgb, 1e-9) ** (1 / 2.4) - 0.055
    expected = np.where(srgb <= 0.0031308, srgb * 12.92, bright) * 65535
    difference = profiles.to_srgb(pixels, PROFILES["adobe"]) - expected
    assert np.abs(difference).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_srgb_is_left_alone(dtype):
    pixels = noise(dtype=dtype)
    for profile in (SRGB, rgb_profile(profiles._SRGB_TO_XYZ, SRGB_CURVE)):
        assert profiles.to_srgb(pixels, profile) is pixels
        assert profiles.to_srgb(pixels[:, :, :1], profile).shape[2] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("curve", [GAMMA, LINEAR, SQUARE, SRGB_CURVE])
def test_grey_stays_grey_and_neutral(dtype, curve):
    """A grey profile says of a level what an RGB profile says of that level three times."""
    grey = noise(1, dtype)
    converted = profiles.to_srgb(grey, grey_profile(curve))
    assert (converted.shape, converted.dtype) == (grey.shape, dtype)
    colour = profiles.to_srgb(np.repeat(grey, 3, axis=2), rgb_profile(ADOBE, curve)).astype(int)
    assert np.abs(colour - converted).max() <= (2 if dtype == np.uint8 else 100)


def test_grey_with_a_colour_profile_becomes_colour():
    assert profiles.to_srgb(noise(1), PROFILES["adobe"]).shape == (40, 60, 3)
    assert profiles.to_srgb(noise(1, np.uint16), PROFILES["adobe"]).shape == (40, 60, 3)


def test_tables_are_for_8_bits():
    with pytest.raises(ImageError, match="16-bit pixels with a colour profile made of tables"):
        profiles.to_srgb(noise(dtype=np.uint16), tables_profile())


def test_cmyk_goes_through_its_profile(shared_data):
    data = (shared_data / "edge_cases" / "Channel_digital_image_CMYK_color.jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        profile = image.info["icc_profile"]
        expected = ImageCms.profileToProfile(
            image,
            io.BytesIO(profile),
            ImageCms.createProfile("sRGB"),
            renderingIntent=1,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    photo = images.decode(data, profile="srgb")
    np.testing.assert_array_equal(photo.pixels, np.asarray(expected))
    plain = images.decode(data)
    assert plain.profile is None
    assert np.abs(plain.pixels.astype(int) - photo.pixels).mean() > 5


def written(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_of_a_foreign_file(kind):
    data = written(noise(), kind, icc_profile=PROFILES["p3"], lossless=True)
    kept = images.decode(data)
    assert kept.profile == PROFILES["p3"]
    applied = images.decode(data, profile="srgb")
    assert applied.profile is None
    np.testing.assert_array_equal(applied.pixels, profiles.to_srgb(kept.pixels, PROFILES["p3"]))
    no_op = images.decode(written(noise(), kind, icc_profile=SRGB, lossless=True), profile="srgb")
    np.testing.assert_array_equal(no_op.pixels, kept.pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_profile_is_written_and_read_again(suffix, with_alpha):
    # Longer than one segment of a JPEG holds.
    long = PROFILES["p3"] + np.random.default_rng(1).bytes(150_000)
    for profile in (PROFILES["p3"], struct.pack(">I", len(long)) + long[4:]):
        photo = Photo(noise(), noise()[:, :, 0] if with_alpha else None, profile)
        data = images.encode(photo, suffix)
        assert images.decode(data).profile == profile
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["icc_profile"] == profile
            image.load()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_profile_of_16_bits_is_written(suffix):
    photo = Photo(noise(dtype=np.uint16), noise(dtype=np.uint16)[:, :, 0], PROFILES["adobe"])
    again = images.decode(images.encode(photo, suffix))
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.profile == photo.profile


def test_grey_profile_is_written_beside_grey():
    photo = Photo(noise(1), profile=grey_profile(GAMMA))
    for suffix in (".png", ".jpg", ".tif"):
        assert images.decode(images.encode(photo, suffix)).profile == photo.profile
    see_through = Photo(noise(1), noise(1)[:, :, 0], grey_profile(GAMMA))
    assert images.decode(images.encode(see_through, ".png")).profile == photo.profile


@pytest.mark.parametrize("suffix", [".tif", ".webp"])
def test_grey_profile_goes_along_where_grey_is_written_as_colour(suffix):
    photo = Photo(noise(1), noise(1)[:, :, 0], grey_profile(GAMMA))
    data = images.encode(photo, suffix)
    assert profiles.colour_space(images.decode(data).profile) == profiles.RGB
    expected = profiles.to_srgb(photo.pixels, photo.profile).astype(int)
    assert np.abs(images.decode(data, profile="srgb").pixels - expected).max() <= 1


def test_profile_has_no_place_in_bmp():
    with pytest.raises(ImageError, match=r"\.bmp has no place for a colour profile; use \.png"):
        images.encode(Photo(noise(), profile=PROFILES["p3"]), ".bmp")
    assert images.decode(images.encode(Photo(noise(), profile=SRGB), ".bmp")).profile is None


def test_profile_that_does_not_fit():
    data = written(noise(), "JPEG", icc_profile=grey_profile(GAMMA))
    assert images.decode(data).profile is None
    with pytest.raises(ImageError, match="space 'GRAY' does not fit 3 channels"):
        images.decode(data, profile="srgb")
    with pytest.raises(ImageError, match="space 'CMYK' does not fit 3 channels"):
        images.encode(
            Photo(noise(), profile=HEADER[:16] + b"CMYK" + HEADER[20:] + bytes(4)), ".png"
        )


def test_broken_profile_of_a_png(capfd):
    data = written(noise(), "PNG", icc_profile=PROFILES["p3"])
    start = data.index(b"iCCP") - 4
    (num_bytes,) = struct.unpack_from(">I", data, start)
    for chunk, crc in (
        (b"name\0\0not deflated", True),
        (b"name\0\0" + zlib.compress(b"x"), True),
        (b"", False),
    ):
        new = struct.pack(">I", len(chunk)) + b"iCCP" + chunk
        new += struct.pack(">I", zlib.crc32(b"iCCP" + chunk) if crc else 1)
        broken = data[:start] + new + data[start + 12 + num_bytes :]
        photo = images.decode(broken)
        np.testing.assert_array_equal(photo.pixels, noise())
        assert photo.profile is None
        with pytest.raises(ImageError, match="colour profile"):
            images.decode(broken, profile="srgb")
    assert capfd.readouterr() == ("", "")


@given(data=st.data())
def test_a_damaged_profile_is_pixels_or_an_error(data):
    whole = data.draw(st.sampled_from([*PROFILES.values(), grey_profile(SQUARE), SRGB]))
    damaged = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for dtype in (np.uint8, np.uint16):
        pixels = noise(1 if b"GRAY" in damaged else 3, dtype)[:2, :2]
        try:
            assert profiles.to_srgb(pixels, bytes(damaged)).dtype == dtype
        except ImageError:
            continue
