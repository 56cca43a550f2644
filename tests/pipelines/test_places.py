"""Files of benchmarks are found and paired as their archives name them."""

import numpy as np
import pytest

from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import DataError
from pipelines.places import expected, places, present


@pytest.fixture
def lay(tmp_path):
    """Return what makes files, which nothing here decodes, and returns their folder."""

    def lay(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(path.encode())
        return str(tmp_path)

    return lay


def keys(name, data):
    return [tuple(entry.key for entry in row) for row in places(BENCHMARKS[name], data).rows]


@pytest.mark.parametrize(
    ("name", "paths", "wanted"),
    [
        ("set5-x4", ("set5/hr/b.png", "set5/hr/a.png"), [("a.png",), ("b.png",)]),
        ("rain100l", ("Rain100L/target/1.png", "Rain100L/input/1.jpg"), [("1.png", "1.jpg")]),
        (
            "sots-indoor",
            ("SOTS/indoor/gt/7.png", "SOTS/indoor/hazy/7_1.png", "SOTS/indoor/hazy/7_10.png"),
            [("7.png", "7_1.png"), ("7.png", "7_10.png")],
        ),
        (
            "sots-outdoor",
            ("SOTS/outdoor/gt/0001.png", "SOTS/outdoor/hazy/0001_0.8_0.2.jpg"),
            [("0001.png", "0001_0.8_0.2.jpg")],
        ),
        ("nh-haze", ("NH-HAZE/51_GT.png", "NH-HAZE/51_hazy.png"), [("51_GT.png", "51_hazy.png")]),
        (
            "outdoor-rain",
            ("Outdoor-Rain/gt/im_1.png", "Outdoor-Rain/input/im_1_s80_a04.png"),
            [("im_1.png", "im_1_s80_a04.png")],
        ),
        (
            "raindrop",
            ("RainDrop/gt/0_clean.png", "RainDrop/data/0_rain.png"),
            [("0_clean.png", "0_rain.png")],
        ),
        ("csd", ("CSD/Gt/1.tif", "CSD/Snow/1.tif"), [("1.tif", "1.tif")]),
        (
            "dpdd-dual",
            ("DPDD/test_c/target/4.png", "DPDD/test_l/source/5.png", "DPDD/test_r/source/6.png"),
            [("4.png", "5.png", "6.png")],
        ),
    ],
)
def test_each_input_finds_its_gt(lay, name, paths, wanted):
    data = lay(*paths)
    assert keys(name, data) == wanted
    assert present(data)[name] == len(wanted)
    found = places(BENCHMARKS[name], data)
    assert len(found.roots) == len(wanted[0])
    assert all(root.startswith(data) for root in found.roots)


def test_a_file_of_numbers_chooses_images(lay, tmp_path):
    folders = ("test_c/target", "test_c/source")
    data = lay(*(f"DPDD/{folder}/{n}.png" for folder in folders for n in range(4)))
    np.save(tmp_path / "DPDD/indoor_labels.npy", np.array([2, 4]))
    np.save(tmp_path / "DPDD/outdoor_labels.npy", np.array([5]))
    assert [gt for gt, _ in keys("dpdd-single-indoor", data)] == ["1.png", "3.png"]
    assert len(keys("dpdd-single", data)) == 4
    with pytest.raises(DataError, match="numbers outside 1 to 4"):
        keys("dpdd-single-outdoor", data)
    (tmp_path / "DPDD/outdoor_labels.npy").write_bytes(b"5")
    with pytest.raises(DataError, match="holds no numbers"):
        keys("dpdd-single-outdoor", data)


@pytest.mark.parametrize(
    ("name", "paths", "message"),
    [
        ("csd", ("CSD/Gt/a.txt",), "no images in .*CSD/Gt; csd expects them there"),
        ("csd", ("CSD/Gt/a.png", "CSD/Snow/a.txt"), "no lq in .*CSD/Snow"),
        ("csd", ("CSD/Gt/a.png", "CSD/Snow/b.png"), "lq b.png of csd has no gt b in .*CSD/Gt"),
        (
            "dpdd-single",
            ("DPDD/test_c/target/1.png", "DPDD/test_c/source/1.png", "DPDD/test_c/source/2.png"),
            "pairs files in order, but there are 1 in .*target, 2 in .*source",
        ),
    ],
)
def test_what_is_missing_is_named(lay, name, paths, message):
    data = lay(*paths)
    with pytest.raises(DataError, match=message):
        places(BENCHMARKS[name], data)
    assert name not in present(data)


def test_the_folders_are_named_before_they_are_there():
    assert expected(BENCHMARKS["nh-haze"]) == "NH-HAZE"
    assert expected(BENCHMARKS["dpdd-dual"]) == (
        "DPDD/test_c/target + DPDD/test_l/source + DPDD/test_r/source"
    )
