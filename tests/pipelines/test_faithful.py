"""Files through a network that changes nothing: every format, and every odd file, as expected."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines import faithful, images
from pipelines.errors import ImageError
from pipelines.images import Photo
from pipelines.restoration import restored_photo

DTYPES = (np.uint8, np.uint16)


def restored(data, suffix, scale=1):
    """Return the file that a network leaves which repeats pixels."""
    photo = faithful.opened(data)
    pixels = photo.pixels.repeat(scale, 0).repeat(scale, 1)
    return faithful.closed(restored_photo(photo, pixels), suffix, data)


def shaded(channels, dtype=np.uint8, side=64):
    y, x = np.mgrid[:side, :side]
    planes = [(x * 3 + y) % 256, (x + y * 2) % 256, (255 - x * 2) % 256]
    pixels = np.stack(planes[:channels], axis=2).astype(dtype)
    return pixels * 257 if dtype == np.uint16 else pixels


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", np.uint8),
        (".png", np.uint16),
        (".tif", np.uint8),
        (".tif", np.uint16),
        (".webp", np.uint8),
    ],
)
def test_no_level_moves_in_a_lossless_format(suffix, dtype, channels, with_alpha):
    pixels = shaded(channels, dtype)
    alpha = shaded(1, dtype)[:, :, 0] if with_alpha else None
    data = images.encode(Photo(pixels, alpha), suffix)
    assert len(images.decode(data).pixels[0, 0]) == channels or suffix in (".webp", ".tif")
    before, after = (images.decode(each) for each in (data, restored(data, suffix)))
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert after.pixels.dtype == dtype
    assert after.pixels.shape == before.pixels.shape
    if with_alpha:
        np.testing.assert_array_equal(after.alpha, alpha)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_keeps_its_colours(channels):
    smooth = np.asarray(Image.fromarray(shaded(3)).resize((200, 160), Image.Resampling.BICUBIC))
    data = images.encode(Photo(smooth[:, :, :channels]), ".jpg")
    before, after = (images.decode(each).pixels for each in (data, restored(data, ".jpg")))
    difference = after.astype(float) - before
    assert abs(difference.mean(axis=(0, 1))).max() < 0.5
    assert before.shape == after.shape


def test_a_palette_becomes_colours_and_its_transparency_stays():
    image = Image.fromarray(shaded(3)).quantize(16)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=3)
    with Image.open(io.BytesIO(restored(buffer.getvalue(), ".png", 2))) as found:
        assert found.mode == "RGBA"
        assert found.size == (128, 128)
        expected = image.copy()
        expected.info["transparency"] = 3
        colours = np.asarray(expected.convert("RGBA")).repeat(2, 0).repeat(2, 1)
        clear = colours[:, :, 3] == 0
        np.testing.assert_array_equal(np.asarray(found)[~clear, :3], colours[~clear, :3])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_colour_profile_stays(suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = images.encode(Photo(shaded(3), profile=profile), suffix)
    assert images.decode(restored(data, suffix, 2)).profile == profile


SIZES = {
    "00017_gray.png": ("L", None),
    "16-bit-grey-alpha.png": ("RGBA", np.uint16),
    "Channel_digital_image_CMYK_color.jpg": ("RGB", np.uint8),
    "Portrait_6.jpg": ("RGB", np.uint8),
    "children-alpha.png": ("RGBA", np.uint8),
    "tree_alpha_16bit.png": ("RGBA", np.uint16),
}


@pytest.mark.parametrize("name", SIZES)
def test_every_odd_file_comes_back_as_a_person_would_expect(shared_data, name):
    data = (shared_data / "edge_cases" / name).read_bytes()
    before = faithful.opened(data)
    suffix = name[name.rfind(".") :]
    again = restored(data, suffix)
    after = faithful.opened(again)
    assert (after.pixels.shape, after.pixels.dtype) == (before.pixels.shape, before.pixels.dtype)
    assert (after.alpha is None) == (before.alpha is None)
    difference = after.rgb.astype(float) - before.rgb
    assert abs(difference.mean()) < (0.5 if suffix == ".jpg" else 1e-9)
    assert after.profile == before.profile
    with Image.open(io.BytesIO(again)) as image:
        # Pillow reads grey with alpha of 16 bits as colour of 8.
        assert image.mode == SIZES[name][0]
        assert image.getexif().get(274, 1) == 1
        camera, original = image.getexif(), Image.open(io.BytesIO(data)).getexif()
        assert camera.get(271) == original.get(271)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("corrupt-header.jpg", "not a PNG, JPEG, TIFF, WebP or BMP image|damaged"),
        ("truncated.jpg", "damaged|truncated"),
        ("truncated.png", "damaged|truncated"),
        ("zero_byte.png", "the file is empty"),
    ],
)
def test_every_broken_file_has_a_reason(shared_data, name, reason):
    with pytest.raises(ImageError, match=reason):
        faithful.opened((shared_data / "edge_cases" / name).read_bytes())


def test_inks_become_the_colours_of_their_profile(shared_data):
    data = (shared_data / "edge_cases" / "Channel_digital_image_CMYK_color.jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        profile = image.info.get("icc_profile")
    plain = images.decode(data).pixels.astype(int)
    assert (abs(faithful.opened(data).pixels - plain).max() > 10) == (profile is not None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_that_moves_is_remarked_on(dtype, channels):
    before = shaded(channels, dtype) // 2
    unit = np.iinfo(dtype).max // 255
    after = before.repeat(2, 0).repeat(2, 1)
    assert faithful.shift(before, after) == ""
    after[:, :, channels - 1] += dtype(7 * unit)
    assert faithful.shift(before, after) == "mean colour moved by +7.0 levels"
