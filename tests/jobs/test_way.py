"""The whole way of a row, on object storage: prepare, train, evaluate, promote, restore."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate, place, prepare, promote, recipes, report, restore, train
from jobs.checkpoints import StoredShelf
from jobs.config import EvaluateJob, PrepareJob, PromoteJob, ReportJob, RestoreJob
from jobs.errors import JobError
from jobs.tracking import Tracker
from jobs.versions import lineage
from jobs.versions.registry import CANDIDATE, CHAMPION, Registry
from laformer import checkpoint
from laformer.config import Stage
from pipelines import images, storage
from pipelines.config import DataConfig, RestoreConfig
from pipelines.images import Photo
from pipelines.receipts import Ledger
from tests.hosts import descendants, is_worker
from tests.networks import MODEL
from tests.pipelines.test_training import photo

pytestmark = [pytest.mark.ray, pytest.mark.s3]

NAME = "laformer-denoise-gaussian-25"


def training(**options):
    """Return a job of seconds: the demo's recipe with a network and patches for tests."""
    demo = recipes.recipe("demo")
    steps = {"steps": 12, "checkpoint_every": 6, "log_every": 3, "segment_steps": 8}
    fields = {"patch_px": 16, "warmup_steps": 2} | steps | options
    return dataclasses.replace(
        demo,
        name="way",
        model=MODEL,
        train=dataclasses.replace(demo.train, **fields),
        data=DataConfig(crops_per_visit=2, validation_px=32),
    )


def upload(folder, num, size=(40, 52)):
    for i in range(num):
        pixels = photo(i, size=size)
        data = images.encode(Photo(pixels=pixels, alpha=None), ".png")
        storage.put(storage.join(folder, f"album {i % 2}", f"{i}.png"), data)


@pytest.fixture(scope="module")
def store(s3, tmp_path_factory):
    """Point the jobs at a bucket for runs and a sqlite file for tracking."""
    patch = pytest.MonkeyPatch()
    patch.setenv("LAFORMER_STORE", f"{s3}/way")
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    yield f"{s3}/way"
    patch.undo()


@pytest.fixture(scope="module")
def trained(cluster, store):
    upload(f"{store}/photos", 6)
    storage.put(f"{store}/photos/broken.png", b"\x89PNG nothing behind it")
    catalogue = prepare.run(PrepareJob(photos=f"{store}/photos", holdout=0.3))
    assert catalogue.bad()["key"].to_pylist() == ["broken.png"]
    return train.run(training())


@pytest.fixture(scope="module")
def promoted(trained):
    scores = evaluate.run(EvaluateJob(model=f"{NAME}@{CANDIDATE}"))
    # A network of seconds may be no better than its input: what is tested is the way.
    Registry().tag(trained.version, {f"input_psnr_db.{scores[0].benchmark}": "1.0"})
    return promote.run(PromoteJob(name=NAME, max_colour_shift=255))


def test_training_leaves_a_candidate_that_says_where_it_comes_from(trained, store):
    version = Registry().resolve(f"{NAME}@{CANDIDATE}")
    assert version == trained.version
    assert trained.facts["run_id"] == trained.run_id
    assert trained.facts["samples"]["global_batch"] == 4
    assert version.tags["manifest_sha256"] == trained.facts["samples"]["manifest"]
    job = recipes.from_json(storage.get(f"{store}/train/way/job.json").decode())
    assert job == training()


def test_the_run_has_numbers_and_pictures_at_their_steps(trained):
    tracker = Tracker()
    losses = tracker.history(trained.run_id, "loss")
    assert [step for step, _ in losses] == [3, 6, 9, 12]
    assert [step for step, _ in tracker.history(trained.run_id, "val_psnr_db")] == [6, 12]
    files = tracker.client.list_artifacts(trained.run_id, "pictures")
    assert files
    run = tracker.client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.steps"] == "12"


def test_the_same_command_again_changes_nothing(trained):
    again = train.run(training())
    assert again.version == trained.version
    assert again.run_id == trained.run_id
    steps = [step for step, _ in Tracker().history(trained.run_id, "loss")]
    assert steps == [3, 6, 9, 12]


def test_a_run_is_not_continued_with_other_values(trained):
    with pytest.raises(JobError, match=r"train\.lr was 0\.005, is 0\.001.*--name"):
        train.run(training(lr=0.001))


def test_evaluation_names_its_protocol_and_keeps_every_image(promoted):
    version = Registry().resolve(f"{NAME}@{CHAMPION}")
    assert version == dataclasses.replace(promoted, tags=version.tags)
    assert version.tags["protocol.held-out-sigma25"] == "gaussian-colour"
    assert float(version.tags["psnr_db.held-out-sigma25"]) > 10


def test_a_folder_is_restored_once_and_accounted_for(promoted, store):
    source, target = f"{store}/noisy", f"{store}/restored"
    upload(source, 4)
    wide = photo(7, dtype=np.uint16)
    storage.put(f"{source}/wide.png", images.encode(Photo(pixels=wide, alpha=None), ".png"))
    alpha = photo(8)[..., 0]
    with_alpha = Photo(pixels=photo(8), alpha=alpha)
    storage.put(f"{source}/alpha.png", images.encode(with_alpha, ".png"))
    grey = Photo(pixels=photo(9, channels=1), alpha=None)
    storage.put(f"{source}/grey.jpg", images.encode(grey, ".jpg"))
    storage.put(f"{source}/broken.jpg", b"")
    job = RestoreJob(source=source, target=target)  # the only champion
    done = restore.run(job)
    assert done.model == str(promoted)
    assert (done.num_restored, done.num_bad) == (7, 1)
    keys = {e.key for e in storage.list_entries(target, images.SUFFIXES)}
    assert keys == {e.key for e in storage.list_entries(source, images.SUFFIXES)} - {"broken.jpg"}
    read = images.decode
    assert read(storage.get(f"{target}/wide.png")).pixels.dtype == np.uint16
    assert np.array_equal(read(storage.get(f"{target}/alpha.png")).alpha, alpha)
    assert read(storage.get(f"{target}/grey.jpg")).pixels.shape == (40, 52, 1)

    before = {e.key: e.etag for e in storage.list_entries(target, images.SUFFIXES)}
    storage.put(f"{source}/new.png", images.encode(grey, ".png"))
    again = restore.run(job)
    assert (again.num_restored, again.num_bad) == (8, 1)
    facts = restore.identity(job, source, str(promoted))
    rows = receipts(Ledger(target, facts).folder)
    restored_keys = [row["key"] for row in rows if row["status"] == "restored"]
    assert sorted(restored_keys) == sorted([*before, "new.png"])  # nothing twice
    assert all(row["model"] == str(promoted) for row in rows)
    with pytest.raises(JobError, match="more than --max-bad-fraction 0"):
        restore.run(dataclasses.replace(job, restore=RestoreConfig(max_bad_fraction=0)))

    links = lineage.trace(target, "album 1/1.png").links
    assert lineage.UNKNOWN not in links.values()
    assert links["version"] == str(promoted)
    assert links["manifest sha256"] == promoted.tags["manifest_sha256"]
    assert links["checkpoints"] == f"{store}/train/way"

    storage.delete(f"{target}/wide.png")  # what is no longer there is done again
    restore.run(job)
    assert images.decode(storage.get(f"{target}/wide.png")).pixels.dtype == np.uint16


def receipts(folder):
    """Return every receipt that was ever written for a job."""
    parts = [f"{folder}/{part.key}" for part in storage.list_entries(folder, (".parquet",))]
    tables = [pq.read_table(io.BytesIO(storage.get(part))) for part in parts]
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.slow
def test_pairs_of_a_dual_pixel_camera_go_the_same_way(cluster, store, tmp_path, capsys):
    for seed in range(5):
        for view in ("gt", "left", "right"):
            data = images.encode(Photo(pixels=photo(seed, dtype=np.uint16)), ".png")
            (tmp_path / view).mkdir(exist_ok=True)
            (tmp_path / view / f"{seed}.png").write_bytes(data)
    (tmp_path / "left" / "4.png").unlink()
    table = str(tmp_path / "pairs.parquet")
    views = (str(tmp_path / "left"), str(tmp_path / "right"))
    catalogue = prepare.run(
        PrepareJob(photos=str(tmp_path / "gt"), lq=views, manifest=table, holdout=0.3)
    )
    assert catalogue.bad()["kind"].to_pylist() == ["without lq"]
    job = dataclasses.replace(
        training(steps=4, checkpoint_every=4),
        task="deblur-defocus-dual",
        model=dataclasses.replace(MODEL, in_channels=6),
        manifest=(table,),
        name="dual",
    )
    broken = tmp_path / "gt" / catalogue.usable("train")["key"][0].as_py()
    broken.write_bytes(bytes(broken.stat().st_size))
    done = train.run(job)
    # Each of the 16 samples has one of three photos, and one of these broke after prepare.
    (replaced,) = [count for _, count in Tracker().history(done.run_id, "replaced_samples")][-1:]
    assert 0 < replaced < 16
    assert f"{replaced:.0f} samples were cut from other photos" in capsys.readouterr().out
    (score,) = evaluate.run(EvaluateJob(model=str(done.version), manifest=table))
    assert score.benchmark == "held-out-deblur-defocus-dual-captured"
    # The views of these pairs are their gt.
    assert score.input_psnr_db == np.inf


@pytest.mark.slow
def test_photos_grow_with_their_alpha(cluster, store, tmp_path):
    upload(f"{store}/large", 4)
    table = f"{store}/large.parquet"
    prepare.run(PrepareJob(photos=f"{store}/large", manifest=table, holdout=0.3))
    job = dataclasses.replace(
        training(steps=4, checkpoint_every=4),
        task="sr-x2",
        model=dataclasses.replace(MODEL, scale=2),
        manifest=(table,),
        name="larger",
    )
    done = train.run(job)
    (score,) = evaluate.run(EvaluateJob(model=str(done.version), manifest=table))
    assert score.protocol == "sr-y-x2"
    data = images.encode(Photo(pixels=photo(1), alpha=photo(2)[..., 0]), ".png")
    (tmp_path / "small.png").write_bytes(data)
    target = str(tmp_path / "restored")
    restore.run(
        RestoreJob(source=str(tmp_path / "small.png"), target=target, model=str(done.version))
    )
    restored = images.decode((tmp_path / "restored" / "small.png").read_bytes())
    assert restored.pixels.shape == (80, 104, 3)
    assert restored.alpha.shape == (80, 104)


def test_one_photo_is_restored_to_a_name(promoted, tmp_path):
    data = images.encode(Photo(pixels=photo(1), alpha=None), ".png")
    (tmp_path / "in.png").write_bytes(data)
    restore.run(RestoreJob(source=str(tmp_path / "in.png"), target=str(tmp_path / "o" / "x.tif")))
    assert images.decode((tmp_path / "o" / "x.tif").read_bytes()).pixels.shape == (40, 52, 3)
    restore.run(RestoreJob(source=str(tmp_path / "in.png"), target=str(tmp_path / "o" / "y.png")))
    assert images.decode((tmp_path / "o" / "y.png").read_bytes()).pixels.shape == (40, 52, 3)


def test_mlflow_alone_gives_the_pixels_of_a_batch_and_of_one_photo(promoted, tmp_path):
    seeds = (1, 2)
    for seed in seeds:
        data = images.encode(Photo(pixels=photo(seed)), ".png")
        storage.put(str(tmp_path / f"in/{seed}.png"), data)
    restore.run(RestoreJob(source=str(tmp_path / "in"), target=str(tmp_path / "batch")))
    restore.run(RestoreJob(source=str(tmp_path / "in/1.png"), target=str(tmp_path / "one")))
    assert (tmp_path / "one/1.png").read_bytes() == (tmp_path / "batch/1.png").read_bytes()
    fetched = Registry().fetch(promoted, tmp_path)
    served = mlflow.pyfunc.load_model(str(fetched)).predict(np.stack([photo(n) for n in seeds]))
    for seed, pixels in zip(seeds, served, strict=True):
        batch = images.decode((tmp_path / f"batch/{seed}.png").read_bytes())
        assert np.array_equal(pixels, batch.pixels)


def test_a_training_checkpoint_restores_as_it_is(promoted, store, tmp_path):
    folder = tmp_path / "step"
    folder.mkdir()
    saved = f"{store}/train/way/step_00000012"
    for entry in storage.list_entries(saved, ("",)):
        (folder / entry.key).write_bytes(storage.get(f"{saved}/{entry.key}"))
    (tmp_path / "in.png").write_bytes(images.encode(Photo(pixels=photo(1)), ".png"))
    source, target = str(tmp_path / "in.png"), str(tmp_path / "o")
    assert (
        restore.run(RestoreJob(source=source, target=target, model=str(folder))).num_restored == 1
    )


def test_a_checkpoint_folder_restores_without_a_registry(promoted, tmp_path, monkeypatch):
    folder = Registry().download(promoted, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    name, files = restore.load(str(folder))
    assert name.startswith(f"{folder}@")
    assert set(files) == {checkpoint.CONFIG, checkpoint.MODEL, checkpoint.FACTS, checkpoint.SUMS}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (RestoreJob(source="s3://tests/empty", target="o"), "no photos in s3://tests/empty"),
        (
            RestoreJob(source="s3://tests/way/photos", target="o", model="ghost@champion"),
            rf"no model 'ghost@champion' in .*registered are: .*{NAME}",
        ),
        (
            RestoreJob(source="s3://tests/way/photos", target="s3://tests/way/photos/o"),
            "lies in the source",
        ),
    ],
)
def test_what_cannot_be_restored_is_explained(promoted, job, message):
    with pytest.raises(JobError, match=message):
        restore.run(job)


def test_an_unknown_benchmark_is_explained(trained):
    with pytest.raises(JobError, match="unknown benchmark 'cbsd'; use held-out or cbsd68-sigma15"):
        evaluate.run(EvaluateJob(model=f"{NAME}@{CANDIDATE}", benchmark=("cbsd",)))


@pytest.mark.slow
def test_cbsd68_scores_come_beside_the_published_ones(trained, shared_data, tmp_path, capsys):
    job = EvaluateJob(
        model=f"{NAME}@{CANDIDATE}", benchmark=("cbsd68-sigma25",), data=str(shared_data)
    )
    [score] = evaluate.run(job)
    assert len(score.rows) == 68
    assert score.input_psnr_db == pytest.approx(20.5426, abs=1e-4)
    assert "FFDNet 31.21" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_cut_over_workers_is_trained_in_parts_of_half_floats(trained):
    options = {
        "shard": True,
        "accumulate": 2,
        "precision": "bfloat16",
        "loss": "l1 + 0.01 frequency",
    }
    shares = train.run(dataclasses.replace(training(**options), name="shares"))
    tracker = Tracker()
    assert tracker.history(shares.run_id, "skipped_steps") == [(s, 0.0) for s in (3, 6, 9, 12)]
    assert tracker.history(shares.run_id, "val_psnr_db")[-1][1] > 15


def test_a_killed_driver_resumes_to_the_same_bytes(
    cluster, store, undisturbed, tmp_path, monkeypatch, capsys
):
    """SIGKILL the training command in its second stage, damage what it stored last, go on."""
    upload(f"{store}/six", 6)
    monkeypatch.setenv("LAFORMER_STORE", f"{store}/six")
    prepare.run(PrepareJob(photos=f"{store}/six", holdout=0.3))
    job = in_two_stages("killed")
    (tmp_path / "job.json").write_text(recipes.to_json(job))
    command = [sys.executable, "-m", "jobs.train", "--job", str(tmp_path / "job.json")]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shelf = StoredShelf(place.run_folder("killed"))
    deadline = time.monotonic() + 240
    while max(shelf.complete(), default=0) < 16:
        assert driver.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline, "no second checkpoint within 240 s"
        time.sleep(0.05)
    workers = list(filter(is_worker, descendants([driver.pid])))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert workers
    while any(map(is_worker, workers)):  # they notice it, and may store until then
        assert time.monotonic() < deadline, "its workers go on"
        time.sleep(0.05)
    newest, earlier, *_ = shelf.complete()
    assert newest < 40, "killed too late"
    state = f"{shelf.uri}/step_{newest:08d}/{checkpoint.STATE}"
    storage.put(state, storage.get(state)[:-1])
    # What Ray kept of an earlier version's run, cut short.
    storage.put(f"{shelf.uri}/checkpoint_manager_snapshot.json", b'{"ray_version"')
    resumed = train.run(job)
    told = capsys.readouterr().out
    assert f"warning: using the checkpoint of step {earlier} instead of step {newest}" in told
    assert f"continuing from step {earlier}" in told
    assert sums(shelf.uri, 40) == undisturbed.sums
    assert resumed.version.tags["sha256"] == undisturbed.sha256


def in_two_stages(name):
    """Return a run that another one is compared with, to the byte."""
    stages = (Stage(first_step=6, patch_px=24, global_batch=2),)
    job = training(steps=40, checkpoint_every=8, stages=stages, segment_steps=100)
    return dataclasses.replace(job, name=name)


def sums(run, step):
    """Return the checksums of a run's weights and optimiser state, and check that they hold."""
    with StoredShelf(run).opened(step) as folder:
        checkpoint.verify(folder)
        found = json.loads((folder / checkpoint.SUMS).read_text())
    return {name: found[name] for name in (checkpoint.WEIGHTS, checkpoint.STATE)}


def test_no_secret_is_in_anything_that_was_left(promoted, s3, tmp_path):
    """Search the bucket with MLflow's files in it, the database, a page, and the logs of Ray."""
    import boto3
    from ray._private.worker import _global_node

    page = tmp_path / "report.html"
    report.run(ReportJob(run="way", target=str(page)))
    client, bucket = boto3.client("s3"), s3.removeprefix("s3://")
    left = {
        entry["Key"]: client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for listed in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in listed["Contents"]
    }
    database = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    logs = [path for path in Path(_global_node.get_logs_dir_path()).rglob("*") if path.is_file()]
    left |= {str(path): path.read_bytes() for path in (page, database, *logs)}
    kinds = ("job.json", checkpoint.FACTS, "manifest.parquet", "report.html", "mlflow.db", ".log")
    assert not [kind for kind in kinds if not any(name.endswith(kind) for name in left)]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        secret = os.environ[name].encode()
        assert secret.startswith(b"canary")
        assert not [where for where, data in left.items() if secret in data]
