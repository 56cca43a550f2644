"""The page of photos before and after: few, small, and only what can be shown."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from jobs import cli, compare
from jobs.compare import Compared
from pipelines import images
from pipelines.images import Photo


def noise(height=40, width=60, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, top, (height, width, channels), dtype=dtype)


def stored(tmp_path, name, before, after):
    for folder, photo in (("in", before), ("out", after)):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(images.encode(photo, name[name.rfind(".") :]))
    return {"key": name, "target_key": name, "status": "restored"}


def page_of(tmp_path, receipts, most=10):
    compared = Compared(source=str(tmp_path / "in"), target=str(tmp_path / "out"), model="m/1")
    uri = compare.write(compared, receipts, most)
    return None if uri is None else (tmp_path / "out" / "compare.html").read_text()


def pictures(page):
    found = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_photos_are_shown_before_and_after_in_the_order_of_their_names(tmp_path):
    receipts = [
        stored(tmp_path, "c.png", Photo(noise()), Photo(noise())),
        stored(tmp_path, "b.png", Photo(noise(dtype=np.uint16)), Photo(noise(dtype=np.uint16))),
        stored(tmp_path, "a.png", Photo(noise(channels=1)), Photo(noise(channels=1))),
        {"key": "0.png", "target_key": "0.png", "status": "bad"},
    ]
    page = page_of(tmp_path, receipts, most=2)
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["a.png", "b.png"]
    assert [image.size for image in pictures(page)] == [(60, 40)] * 4
    assert "2 of 3 restored photos" in page
    assert "PSNR" not in page


def test_large_photos_are_shown_by_their_centre_and_enlarged_ones_side_by_side(tmp_path):
    large = noise(1000, 900)
    receipts = [
        stored(tmp_path, "a.png", Photo(large), Photo(large)),
        stored(tmp_path, "b.png", Photo(large[:300, :200]), Photo(noise(900, 600))),
    ]
    page = page_of(tmp_path, receipts)
    assert [image.size for image in pictures(page)] == [(512, 512)] * 2 + [(510, 510)] * 2


def test_what_cannot_be_shown_is_left_out(tmp_path):
    receipts = [stored(tmp_path, "a.png", Photo(noise()), Photo(noise()))]
    (tmp_path / "out" / "a.png").write_bytes(b"")
    assert page_of(tmp_path, receipts) is None
    assert page_of(tmp_path, []) is None


def test_transparent_pixels_are_white(tmp_path):
    clear = Photo(noise(), np.zeros((40, 60), np.uint8))
    page = page_of(tmp_path, [stored(tmp_path, "a.png", clear, clear)])
    assert np.asarray(pictures(page)[0]).min() > 250


def test_the_command_line_names_how_an_image_is_restored():
    words = "restore in out --context tiles --tile-px 256 --overlap-px 32 --ensemble --compare 5"
    job = cli.parse(words.split())
    assert (job.inference.context, job.inference.tile_px, job.inference.ensemble) == (
        "tiles",
        256,
        True,
    )
    assert job.compare == 5
    with pytest.raises(SystemExit):
        cli.parse(["restore", "in", "out", "--compare", "-1"])
