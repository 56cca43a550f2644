"""What is compared and printed: the protocol's channel, its SSIM, inputs of another size."""

import dataclasses
import io

import cv2
import numpy as np
import pytest
from rich.console import Console

from jobs.evaluation.measures import MEASURES, Scorer, scores
from jobs.evaluation.results import lines, table
from jobs.evaluation.scoring import Measure, Score, record
from jobs.evaluation.subjects import Subject
from jobs.versions.registry import Version
from laformer import metrics, ssim
from pipelines import images
from pipelines.benchmarks import BENCHMARKS
from pipelines.degradations.bicubic import imresize
from pipelines.errors import DataError
from pipelines.families import held_out, held_out_sr
from pipelines.images import Photo
from pipelines.protocols import HELD_OUT_RGB, REALBLUR, Protocol, sr_y
from pipelines.tasks import TASKS
from tests.pipelines.test_training import photo

VERSION = Version("m", 3, "run", {})
PLAIN = Score(
    benchmark="held-out-sigma25",
    protocol="gaussian-colour",
    digest="a",
    rows=({"key": "a", "input_psnr_db": 20.0, "psnr_db": 30.0},),
)
WITH_SSIM = dataclasses.replace(
    PLAIN,
    benchmark="set5-x4",
    protocol="sr-y-x4",
    rows=({**PLAIN.rows[0], "input_ssim": 0.81, "ssim": 0.9},),
)


class Recorded:
    """A tracker that keeps what it is told."""

    def tag(self, _version, tags):
        self.tags = tags

    def metrics(self, _run_id, values):
        self.values = values

    def file(self, _run_id, path):
        self.name = path.name


def cubic(scale):
    """Return a loader of what restores by enlarging."""

    def restore(lq):
        return imresize(lq, scale * lq.shape[0], scale * lq.shape[1])

    return lambda: restore


@pytest.fixture
def folder(tmp_path):
    data = images.encode(Photo(pixels=photo(1, size=(43, 50))), ".png")
    (tmp_path / "a.png").write_bytes(data)
    return tmp_path


def item(folder, keys=("a.png",)):
    return {"keys": list(keys), "sizes": [(folder / key).stat().st_size for key in keys]}


def subject(benchmark, folder):
    return Subject(benchmark, (str(folder),), (("a.png",),), ((0,),), "digest")


def test_super_resolution_is_measured_against_bicubic_enlargement(folder):
    benchmark = held_out_sr(4)
    row = Measure(subject(benchmark, folder), cubic(4))(item(folder))
    gt = photo(1, size=(43, 50))[:40, :48]
    lq = imresize(gt, 10, 12)
    for prefix, round_between in (("input_", False), ("", True)):
        shown = imresize(lq, 40, 48, round_between=round_between)
        a, b = (metrics.rounded_luma(x[4:-4, 4:-4]) for x in (shown, gt))
        assert row[f"{prefix}psnr_db"] == metrics.psnr(a, b)
        assert row[f"{prefix}ssim"] == ssim.gaussian(a, b)
    assert set(row) == {"key", "input_psnr_db", "psnr_db", "input_ssim", "ssim"}


def test_a_protocol_without_ssim_has_none_in_its_rows(folder):
    row = Measure(subject(held_out(25), folder), cubic(1))(item(folder))
    assert set(row) == {"key", "input_psnr_db", "psnr_db"}


def test_a_model_of_another_scale_and_too_small_a_photo_are_explained(folder):
    measure = Measure(subject(held_out_sr(4), folder), cubic(2))
    with pytest.raises(
        DataError, match=r"a.png: .*\(20, 24, 3\) but gt \(40, 48, 3\); held-out-x4"
    ):
        measure(item(folder))
    small = images.encode(Photo(pixels=photo(1, size=(16, 50))), ".png")
    (folder / "a.png").write_bytes(small)
    with pytest.raises(DataError, match=r"a.png: image .* the window of SSIM"):
        Measure(subject(held_out_sr(4), folder), cubic(4))(item(folder))


def test_captured_lq_is_read_and_the_benchmark_of_one_dual_pixel_view_is_shown(tmp_path):
    gt = photo(1, size=(40, 52))
    for name, pixels in (("gt", gt), ("left", gt // 2), ("right", 255 - gt)):
        (tmp_path / name).mkdir()
        data = images.encode(Photo(pixels=pixels), ".png")
        (tmp_path / name / f"{name}.png").write_bytes(data)
    seen = []

    def restore(lq):
        seen.append(lq)
        return gt

    names = ("gt", "left", "right")
    roots, keys = (tuple(f"{tmp_path}/{name}" for name in names), tuple(f"{n}.png" for n in names))
    gate = TASKS["deblur-defocus-dual"].gate
    paths = [f"{name}/{key}" for name, key in zip(names, keys, strict=True)]
    sizes = tuple(item(tmp_path, paths)["sizes"])
    subject = Subject(gate, roots, (keys,), (sizes,), "digest")
    row = Measure(subject, lambda: restore)({"keys": list(keys), "sizes": list(sizes)})
    assert np.array_equal(seen[0], np.concatenate([gt // 2, 255 - gt], axis=2))
    assert row["psnr_db"] == np.inf
    assert row["input_psnr_db"] == metrics.psnr(gt // 2, gt)


@pytest.mark.parametrize(
    ("channel", "taken"), [("rgb", lambda x: x), ("y", metrics.luma), ("y-rounded", None)]
)
def test_the_protocol_says_what_is_compared(channel, taken):
    gt, other = (photo(seed, size=(20, 24)) for seed in (1, 2))
    taken = taken or metrics.rounded_luma
    protocol = Protocol(name="odd", channel=channel, border_px=2)
    wanted = metrics.psnr(taken(other[2:-2, 2:-2]), taken(gt[2:-2, 2:-2]))
    assert scores(other, gt, protocol) == {"psnr_db": wanted}
    assert scores(other / np.float32(255), gt, protocol) == {"psnr_db": wanted}


def test_an_output_that_is_not_quantised_keeps_its_fractions():
    gt = np.full((4, 4, 3), 100, np.uint8)
    image = np.full((4, 4, 3), 100.4 / 255, np.float64)
    exact = Protocol(name="odd", channel="rgb", quantise=False)
    found = scores(image, gt, exact)["psnr_db"]
    assert found == pytest.approx(20 * np.log10(255 / 0.4), abs=1e-6)
    assert scores(image, gt, dataclasses.replace(exact, quantise=True))["psnr_db"] == np.inf


@pytest.mark.parametrize("protocol", [sr_y(2), HELD_OUT_RGB])
def test_an_equal_image_has_an_ssim_of_one(protocol):
    gt = photo(1, size=(20, 24))
    assert scores(gt, gt, protocol) == {"psnr_db": np.inf, "ssim": 1.0}


def test_what_was_measured_is_kept_with_the_version():
    tracker = Recorded()
    record(tracker, tracker, VERSION, WITH_SSIM)
    assert tracker.tags == {
        "input_psnr_db.set5-x4": "20.0000",
        "psnr_db.set5-x4": "30.0000",
        "input_ssim.set5-x4": "0.8100",
        "ssim.set5-x4": "0.9000",
        "protocol.set5-x4": "sr-y-x4",
        "images.set5-x4": "a",
    }
    assert tracker.values == {"psnr_db.set5-x4": 30.0, "ssim.set5-x4": 0.9}
    assert tracker.name == "set5-x4-v3.parquet"
    record(tracker, tracker, VERSION, PLAIN)
    assert not any("ssim" in key for key in (*tracker.tags, *tracker.values))


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_shows_every_measure_and_the_published_scores(width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(str(VERSION), [PLAIN, WITH_SSIM]))
    text = console.file.getvalue()
    for shown in ("0.8100", "0.9000", "30.00 to 30.00", "published PSNR", "0.9000 to 0.9000"):
        assert shown in text
    assert "SwinIR 32.92" in text
    assert "HAT 33.04" in text
    assert text.count("SSIM") == 1
    assert "…" not in text


def test_the_page_has_a_line_for_each_measure():
    assert [(s.metric, s.before, s.after) for s in lines(PLAIN)] == [("PSNR", 20, 30)]
    psnr, ssim_ = lines(WITH_SSIM)
    assert (ssim_.metric, ssim_.before, ssim_.after) == ("SSIM", 0.81, 0.9)
    assert psnr.note == "95 %: 30.00 to 30.00; published: SwinIR 32.92, HAT 33.04"
    assert ssim_.note == "95 %: 0.9000 to 0.9000"


def test_every_measure_of_every_protocol_is_known_and_measured():
    wanted = {name for each in BENCHMARKS.values() for name in each.protocol.measures}
    assert wanted == set(MEASURES) - {"lpips"}
    gt = photo(1, size=(20, 24))
    for benchmark in BENCHMARKS.values():
        protocol = benchmark.protocol
        if protocol.align:
            continue
        one = gt if protocol.channel != "grey" else gt[..., :1]
        found = scores(one, one, protocol)
        assert tuple(found) == protocol.measures
        # PSNR-B also counts the edges that a clean image has.
        wanted = {name: found[name] for name in found if name != "psnr_b_db"}
        assert all(value in (np.inf, 1, 0) for value in wanted.values())


def test_floats_and_sixteen_bits_are_compared_in_levels_of_eight():
    gt, other = (photo(seed, size=(20, 24)) for seed in (1, 2))
    protocol = BENCHMARKS["dpdd-dual"].protocol
    deep = [image.astype(np.uint16) * np.uint16(257) for image in (other, gt)]
    wanted = scores(other, gt, protocol)
    assert scores(*deep, protocol) == pytest.approx(wanted, abs=1e-9)
    assert scores(other / np.float32(255), deep[1], protocol) == pytest.approx(wanted, abs=1e-4)
    assert wanted["mae"] == np.abs(other / 255 - gt / 255).mean()
    beyond = np.where(gt > 250, np.float32(1.5), gt / np.float32(255))
    # What leaves the range is clipped, as in a file.
    assert scores(beyond, np.where(gt > 250, 255, gt), protocol)["psnr_db"] > 100


def test_realblur_is_measured_where_both_images_are():
    gt = cv2.GaussianBlur(photo(1, size=(120, 140)), (0, 0), 2)
    moved = np.roll(gt, (2, -1), (0, 1))
    plain = Protocol(name="odd", channel="rgb", measures=("psnr_db", "ssim"))
    found, without = scores(moved, gt, REALBLUR), scores(moved, gt, plain)
    assert found["psnr_db"] > without["psnr_db"] + 5
    assert found["ssim"] > without["ssim"]


def test_what_a_user_asks_for_besides_is_measured_of_rgb():
    gt = photo(1, size=(20, 24))
    seen = []
    score = Scorer(sr_y(4), {"lpips": lambda a, b: seen.append((a, b)) or 0.5})
    assert score(gt / np.float32(255), gt)["lpips"] == 0.5
    assert np.array_equal(seen[0][0], seen[0][1])
