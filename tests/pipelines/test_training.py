"""The stream: the same bytes for any number of blocks and workers, and no row lost."""

import dataclasses
import hashlib
import itertools

import cv2
import numpy as np
import pyarrow as pa
import pytest
import ray

from laformer.batches import Lanes, steps_of
from pipelines import images, manifest, training
from pipelines.config import DataConfig
from pipelines.degradations import GaussianNoise
from pipelines.errors import DataError, ManifestError
from pipelines.images import Photo
from pipelines.manifest import SCHEMA, Manifest
from pipelines.pairs import Synthesised
from pipelines.plan import Span
from pipelines.tasks import TASKS, Task
from pipelines.training import CropReader, TrainingStream
from pipelines.validation import validation_stream
from tests.pipelines.test_profiles import ADOBE, GAMMA, rgb_profile

GATE = TASKS["denoise-gaussian"].gate
NOISE = Task(title="noise", pairs=Synthesised(GaussianNoise(sigma=(0, 50))), gate=GATE)
PLAN = {"seed": 5, "global_batch": 4, "crops_per_visit": 3, "visits_per_window": 2}
STEPS = 13  # two whole windows of 6 steps and a part of one


def photo(seed, size=(40, 52), dtype=np.uint8, channels=3):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, np.iinfo(dtype).max, (5, 6, channels), dtype=dtype)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, channels)


def write_photos(folder, photos):
    """Write photos by name and a manifest of them without Ray; return the manifest's uri."""
    rows = []
    for name, pixels in sorted(photos.items()):
        data = images.encode(Photo(pixels=pixels), ".png")
        (folder / name).write_bytes(data)
        rows.append(row(name, pixels) | {"num_bytes": len(data)})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    manifest.write(Manifest(root=str(folder), table=table), str(folder / "m.parquet"))
    return str(folder / "m.parquet")


def row(name, pixels, split="train"):
    height, width, channels = pixels.shape
    return {
        "key": name,
        "etag": "1",
        "num_bytes": 1,
        "height": height,
        "width": width,
        "channels": channels,
        "bits": 8 * pixels.dtype.itemsize,
        "split": split,
        "status": "ok",
        "kind": "",
        "reason": "",
        "lq_keys": [],
        "lq_etags": [],
        "lq_num_bytes": [],
        "shard": "",
        "offset": 0,
        "shard_bytes": 0,
    }


def stream(uri, patch_px=16, task=NOISE, **options):
    uris = uri if isinstance(uri, tuple) else (uri,)
    return TrainingStream.create(uris, task=task, patch_px=patch_px, plan_options=PLAN | options)


def write_pairs(folder, photos, lqs, scale=1):
    """Write photos and their captured lq, one list of views a photo; return the manifest's uri."""
    uri = write_photos(folder, photos)
    rows = manifest.read(uri).table.to_pylist()
    views = len(next(iter(lqs.values())))
    for view in range(views):
        (folder / f"view{view}").mkdir()
    for row in rows:
        for view, pixels in enumerate(lqs[row["key"]]):
            data = images.encode(Photo(pixels=pixels), ".png")
            (folder / f"view{view}" / row["key"]).write_bytes(data)
            row["lq_keys"].append(row["key"])
            row["lq_etags"].append("1")
            row["lq_num_bytes"].append(len(data))
            row["bits"] = max(row["bits"], 8 * pixels.dtype.itemsize)
    roots = tuple(str(folder / f"view{view}") for view in range(views))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    manifest.write(Manifest(str(folder), table, roots, scale), uri)
    return uri


@pytest.fixture
def uri(tmp_path):
    return write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(5)})


def digests(block):
    """Return sample id -> hash of its bytes."""
    rows = zip(block["sample_id"], block["lq"], block["gt"], strict=True)
    return {int(n): hashlib.sha256(lq.tobytes() + gt.tobytes()).hexdigest() for n, lq, gt in rows}


def test_samples_are_the_same_however_the_plan_is_cut(uri):
    reader = CropReader(stream(uri))
    whole = digests(reader.read(Span(0, STEPS, 0, 4)))
    assert len(whole) == STEPS * 4
    for spans in (
        [Span(0, STEPS, lane, lane + 1) for lane in range(4)],
        [Span(0, 5, 0, 4), Span(5, STEPS, 0, 2), Span(5, STEPS, 2, 4)],
        [Span(step, step + 1, 0, 4) for step in range(STEPS)],
    ):
        parts = [digests(reader.read(span)) for span in spans]
        assert {n: d for part in parts for n, d in part.items()} == whole


def test_crops_are_cut_from_their_photo_and_degraded(uri, tmp_path):
    made = stream(uri)
    block = CropReader(made).read(Span(0, 4, 0, 4))
    assert block["gt"].dtype == np.uint8
    assert block["lq"].dtype == np.float16
    assert block["gt"].shape == block["lq"].shape == (16, 16, 16, 3)
    names = sorted(p.name for p in tmp_path.glob("*.png"))
    for sample_id, gt in zip(block["sample_id"], block["gt"], strict=True):
        image = images.decode(
            (tmp_path / names[made.plan.locate(int(sample_id)).image]).read_bytes()
        ).rgb
        turned = [np.rot90(gt, turn) for turn in range(4)]
        assert any(found_in(image, c) for t in turned for c in (t, t[:, ::-1]))


def found_in(image, crop):
    """Tell whether a crop stands somewhere in an image."""
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape)[:, :, 0]
    return bool((windows == crop).all(axis=(2, 3, 4)).any())


def test_one_16_bit_photo_makes_a_16_bit_stream(tmp_path):
    uri = write_photos(tmp_path, {"a.png": photo(0), "b.png": photo(1, dtype=np.uint16)})
    block = CropReader(stream(uri)).read(Span(0, 6, 0, 4))
    assert block["gt"].dtype == np.uint16


def test_grey_photos_become_colour(tmp_path):
    uri = write_photos(tmp_path, {"a.png": photo(0, channels=1)})
    gt = CropReader(stream(uri)).read(Span(0, 1, 0, 4))["gt"]
    assert np.array_equal(gt[..., 0], gt[..., 2])


def test_captured_pairs_are_cut_where_their_gt_is_cut(tmp_path):
    photos = {f"{i}.png": photo(i) for i in range(3)}
    uri = write_pairs(tmp_path, photos, {key: [255 - gt] for key, gt in photos.items()})
    block = CropReader(stream(uri)).read(Span(0, 6, 0, 4))
    assert block["lq"].dtype == np.uint8
    assert np.array_equal(block["lq"], 255 - block["gt"])


def test_a_pair_is_as_deep_as_its_deepest_image(tmp_path):
    gt = photo(0)
    uri = write_pairs(tmp_path, {"a.png": gt}, {"a.png": [gt.astype(np.uint16) * 257]})
    block = CropReader(stream(uri)).read(Span(0, 6, 0, 4))
    assert block["lq"].dtype == block["gt"].dtype == np.uint16
    assert np.array_equal(block["lq"], block["gt"])


def test_captured_pairs_of_another_shape_than_the_task_are_refused(tmp_path):
    gt = photo(0)
    uri = write_pairs(tmp_path, {"a.png": gt}, {"a.png": [gt[::2, ::2]]}, scale=2)
    with pytest.raises(ManifestError, match=r"1 lq images at 1/2 .* task takes 1 at 1/1"):
        stream(uri)


def test_super_resolution_and_two_views_have_their_shapes(tmp_path):
    photos = {f"{i}.png": photo(i) for i in range(2)}
    (tmp_path / "sr").mkdir()
    small = write_photos(tmp_path / "sr", photos)
    block = CropReader(stream(small, task=TASKS["sr-x2"])).read(Span(0, 3, 0, 4))
    assert (block["lq"].shape, block["gt"].shape) == ((12, 8, 8, 3), (12, 16, 16, 3))
    (tmp_path / "dual").mkdir()
    views = {key: [gt, 255 - gt] for key, gt in photos.items()}
    dual = write_pairs(tmp_path / "dual", photos, views)
    block = CropReader(stream(dual, task=TASKS["deblur-defocus-dual"])).read(Span(0, 3, 0, 4))
    assert block["lq"].shape == (12, 16, 16, 6)


def test_a_mixture_visits_its_sources_by_weight_in_one_type(tmp_path):
    for name in ("clean", "taken"):
        (tmp_path / name).mkdir()
    clean = write_photos(tmp_path / "clean", {f"{i}.png": photo(i) for i in range(3)})
    photos = {f"{i}.png": photo(10 + i) for i in range(2)}
    taken = write_pairs(tmp_path / "taken", photos, {key: [gt] for key, gt in photos.items()})
    mixed = stream((clean, taken), source_weights=(3, 1))
    block = CropReader(mixed).read(Span(0, 24, 0, 4))
    assert block["lq"].dtype == np.float16
    sources = np.array([mixed.plan.locate(int(n)).source for n in block["sample_id"]])
    assert np.bincount(sources).tolist() == [72, 24]
    exact = block["lq"][sources == 1].astype(np.float32) * 255
    assert np.abs(exact - block["gt"][sources == 1]).max() < 0.1
    assert mixed.fingerprint() != stream((clean, taken), source_weights=(1, 1)).fingerprint()


def test_colour_profiles_are_kept_or_applied_as_the_manifest_says(tmp_path):
    uri = write_photos(tmp_path, {"a.png": photo(0)})
    wide = images.Photo(pixels=photo(0), profile=rgb_profile(ADOBE, GAMMA))
    data = images.encode(wide, ".png")
    (tmp_path / "a.png").write_bytes(data)
    catalogue = manifest.read(uri)
    rows = [row | {"num_bytes": len(data)} for row in catalogue.table.to_pylist()]
    catalogue = dataclasses.replace(catalogue, table=pa.Table.from_pylist(rows, schema=SCHEMA))
    crops, digests = [], set()
    for profile in ("keep", "srgb"):
        manifest.write(dataclasses.replace(catalogue, profile=profile), uri)
        crops.append(CropReader(stream(uri)).read(Span(0, 2, 0, 4))["gt"])
        digests.add(manifest.read(uri).digest())
    assert np.abs(crops[0].astype(int) - crops[1]).max() > 5
    assert len(digests) == 2


def test_a_photo_that_broke_is_replaced_and_counted(uri, tmp_path):
    made = stream(uri)
    whole = CropReader(made).read(Span(0, 12, 0, 4))
    (tmp_path / "2.png").write_bytes(b"broken")
    broken = CropReader(made).read(Span(0, 12, 0, 4))
    hit = np.array([made.plan.locate(int(n)).image == 2 for n in broken["sample_id"]])
    assert hit.any()
    assert np.array_equal(broken["replaced"] > 0, hit)
    assert np.array_equal(broken["gt"][~hit], whole["gt"][~hit])
    again = CropReader(made).read(Span(0, 12, 0, 4))
    assert np.array_equal(broken["gt"], again["gt"])


def test_a_photo_that_changed_after_prepare_is_replaced_and_counted(uri, tmp_path):
    made = stream(uri)
    data = images.encode(Photo(pixels=photo(99, size=(8, 8))), ".png")
    (tmp_path / "2.png").write_bytes(data)
    block = CropReader(made).read(Span(0, 12, 0, 4))
    hit = np.array([made.plan.locate(int(n)).image == 2 for n in block["sample_id"]])
    assert np.array_equal(block["replaced"] > 0, hit)


def test_a_stream_without_any_photo_left_stops_with_the_reason(uri, tmp_path):
    made = stream(uri)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"photos in a row cannot be read.*run laformer prepare"):
        CropReader(made).read(Span(0, 1, 0, 4))


def test_photos_smaller_than_the_patch_are_left_out(tmp_path):
    uri = write_photos(tmp_path, {"a.png": photo(0), "b.png": photo(1, size=(15, 60))})
    assert stream(uri).plan.source_images == (1,)
    with pytest.raises(ManifestError, match="no training photo of at least 64 x 64 pixels"):
        stream(uri, patch_px=64)


def test_a_manifest_that_changes_under_a_run_is_noticed(uri, tmp_path):
    made = stream(uri)
    (tmp_path / "sub").mkdir()
    write_photos(tmp_path / "sub", {"x.png": photo(9)})
    (tmp_path / "m.parquet").write_bytes((tmp_path / "sub" / "m.parquet").read_bytes())
    with pytest.raises(ManifestError, match="changed while a run was using it"):
        CropReader(made).read(Span(0, 1, 0, 4))


@pytest.mark.ray
@pytest.mark.parametrize("num_blocks", [1, 3, 8])
def test_any_number_of_blocks_gives_the_same_bytes(cluster, uri, num_blocks):
    reader = CropReader(stream(uri))
    whole = digests(reader.read(Span(0, 24, 0, 4)))
    cut = np.linspace(0, 24, num_blocks + 1).astype(int).tolist()
    spans = [vars(Span(a, b, 0, 4)) for a, b in itertools.pairwise(cut)]
    blocks = ray.data.from_items(spans, override_num_blocks=num_blocks).map_batches(
        reader, batch_size=None
    )
    found: dict[int, str] = {}
    for block in blocks.iter_batches(batch_size=None, batch_format="numpy"):
        found |= digests(block)
    assert found == whole


@ray.remote(num_cpus=0)
def consume(iterator, lanes, first):
    """Return ids step by step and hashes, as a training worker sees them."""
    ids, found = [], {}
    blocks = iterator.iter_batches(batch_size=None, batch_format="numpy")
    for part in itertools.chain.from_iterable(steps_of(blocks, lanes, first_step=first)):
        ids += part["sample_id"].tolist()
        found |= digests(part)
    return ids, found


@pytest.mark.ray
@pytest.mark.parametrize(("workers", "block_bytes"), [(1, 2**30), (2, 2**30), (1, 1), (2, 1)])
def test_any_number_of_workers_gets_the_same_bytes_in_its_own_lanes(
    cluster, uri, workers, block_bytes, monkeypatch
):
    monkeypatch.setattr(training, "BLOCK_BYTES", block_bytes)
    made = stream(uri)
    first, last = 3, 3 + STEPS
    iterators = made.segment(first, last, workers).streaming_split(workers, equal=True)
    results = ray.get(
        [
            consume.remote(each, Lanes.of(worker, workers, 4), first)
            for worker, each in enumerate(iterators)
        ]
    )
    for worker, (ids, _) in enumerate(results):
        own = Lanes.of(worker, workers, 4)
        assert ids == [n for step in range(first, last) for n in own.expected(step)]
    whole = digests(CropReader(made).read(Span(first, last, 0, 4)))
    assert {n: d for _, found in results for n, d in found.items()} == whole


@pytest.mark.ray
def test_validation_degrades_the_same_centre_every_time(cluster, tmp_path):
    uri = write_photos(tmp_path, {"a.png": photo(0), "b.png": photo(1, size=(20, 80))})
    catalogue = manifest.read(uri)
    held_out = [r | {"split": "held_out"} for r in catalogue.table.to_pylist()]
    manifest.write(Manifest(catalogue.root, pa.Table.from_pylist(held_out, schema=SCHEMA)), uri)
    config = DataConfig(validation_px=32)
    first, again = (
        validation_stream((uri,), task=NOISE, config=config).take_all() for _ in range(2)
    )
    assert [r["key"] for r in first] == ["a.png", "b.png"]
    assert [r["gt"].shape for r in first] == [(32, 32, 3), (20, 32, 3)]
    for a, b in zip(first, again, strict=True):
        assert a["lq"].tobytes() == b["lq"].tobytes()


def test_nothing_held_out_is_explained(uri):
    with pytest.raises(ManifestError, match=r"run laformer prepare with --holdout 0\.2"):
        validation_stream((uri,), task=NOISE, config=DataConfig())
