"""MLflow as the jobs use it: the same on a sqlite file and on a server."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest

from jobs import backlog, place, prepare, train
from jobs.checkpoints import StoredShelf
from jobs.config import PrepareJob
from jobs.errors import JobError
from jobs.tracking import Tracker
from jobs.training.recording import MlflowObserver
from jobs.versions.registry import CANDIDATE, Registry
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from pipelines import images
from tests.jobs.test_way import training, upload
from tests.networks import MODEL, config
from tests.outages import Way


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start `mlflow server` on loopback; return its address."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
            break
        assert running.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.2)
    yield address
    running.terminate()
    running.wait()


@pytest.fixture(params=["sqlite", "server"])
def tracker(request, tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "store"))
    if request.param == "server":
        return Tracker(request.getfixturevalue("server"))
    return Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def released(tmp_path):
    state = State.create(LAformer(MODEL), config())
    checkpoint.save(tmp_path / "c", state, {})
    checkpoint.release(tmp_path / "c", tmp_path / "released")
    return tmp_path / "released"


def test_a_run_from_its_first_number_to_a_downloaded_model(tracker, released, tmp_path):
    run_id = tracker.continue_run("e", "store/train/first", {"lr": "0.1"})
    recorder = MlflowObserver(tracker.uri, run_id)()
    recorder.log(3, {"loss": 0.5})
    recorder.log(6, {"loss": 0.25})
    recorder.picture(6, "sub/photo.png", np.zeros((4, 6, 3), np.uint8))
    recorder.close()
    assert tracker.history(run_id, "loss") == [(3, 0.5), (6, 0.25)]
    assert tracker.client.list_artifacts(run_id, "pictures")
    # The same run again, as after a restart: no second one, and it runs.
    assert tracker.continue_run("e", "store/train/first", {}) == run_id
    assert tracker.continue_run("e", "store/train/second", {}) != run_id
    assert len(tracker.times_s(run_id, "loss")) == 2
    tracker.finish_run(run_id)
    found = tracker.find_run(run_id)
    assert (found.name, found.status, found.folder) == ("first", "FINISHED", "store/train/first")
    assert found.params == {"lr": "0.1"}
    assert found.metrics == {"loss": 0.25}
    assert found.ended_s >= found.started_s
    ((photo, paths),) = tracker.pictures(run_id).items()
    assert photo == "sub_photo.png"
    png = tracker.artifact(run_id, paths[6])
    assert images.decode(png).pixels.shape == (4, 6, 3)

    name, registry = f"model-{tmp_path.name}", Registry(tracker.uri)
    version = registry.register(name, released, run_id, {"sha256": "1", "task": "t"})
    assert registry.register(name, released, run_id, {"sha256": "1"}) == version
    assert registry.alias(name, CANDIDATE) is None
    registry.nominate(version)
    assert registry.resolve(f"{name}@{CANDIDATE}") == version
    assert registry.resolve(f"{name}/1") == version
    assert [v for v in registry.champions() if v.name == name] == []
    registry.promote(version)
    assert [v for v in registry.champions() if v.name == name] == [version]
    registry.tag(version, {"psnr_db.b": "27.0"})
    assert registry.resolve(str(version)).tags["psnr_db.b"] == "27.0"
    folder = registry.download(version, tmp_path / "down")
    assert checkpoint.load_model(folder).config == MODEL

    with pytest.raises(JobError, match=rf"no model 'ghost/1' .*registered are: .*{name}"):
        registry.resolve("ghost/1")
    with pytest.raises(JobError, match="no model 'without-version'"):
        registry.resolve("without-version")


def test_training_outlives_a_tracking_server_that_goes_away(tracker):
    run_id = tracker.continue_run("e", "store/train/away", {})
    recorder = MlflowObserver(tracker.uri, run_id)()
    recorder.run_id = "no-such-run"
    recorder.log(1, {"loss": 1.0})
    recorder.close()
    assert recorder.lost == 1


def wait_until(seen):
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline, "not seen within 60 s"
        time.sleep(0.02)


def test_what_a_server_missed_is_recorded_in_order_and_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(backlog, "FIRST_WAIT_S", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    way = Way(urlsplit(server).port)
    tracker, folder, told = Tracker(f"http://127.0.0.1:{way.port}"), str(tmp_path / "run"), []
    run_id = tracker.continue_run("e", folder, {})
    observer = MlflowObserver(tracker.uri, run_id, folder, told.append)
    recorder = observer()
    recorder.log(1, {"loss": 1.0, "lr": 0.1})
    wait_until(lambda: not recorder.numbers.backlog.waiting())
    way.cut()
    recorder.log(2, {"loss": 0.5})
    recorder.log(3, {"loss": 0.25})
    recorder.picture(3, "photo.png", np.zeros((4, 6, 3), np.uint8))
    wait_until(lambda: recorder.numbers.is_away and recorder.pictures.is_away)
    unsent = tmp_path / "run" / "unsent.jsonl"
    wait_until(lambda: unsent.exists() and len(unsent.read_text().splitlines()) == 3)
    way.open()
    wait_until(lambda: "takes what was recorded again" in told[-1])
    assert len(told) == 2
    assert "cannot be reached" in told[0]
    way.cut()
    recorder.log(4, {"loss": 0.125})
    recorder.close()
    assert "1 logs or pictures have not reached MLflow: they wait in" in told[-1]
    tracker.finish_run(run_id)  # says that it cannot, which is no error of the run

    way.open()
    kept = unsent.read_bytes()
    observer.catch_up()
    assert not unsent.exists()
    unsent.write_bytes(kept)  # as if its driver had been killed before it was removed
    observer.catch_up()
    steps = [1, 2, 3, 4]
    assert tracker.history(run_id, "loss") == [(s, 2.0 ** (1 - s)) for s in steps]
    times = tracker.times_s(run_id, "loss")
    assert times == sorted(times)
    assert len(times) == 4
    assert tracker.pictures(run_id)["photo.png"].keys() == {3}
    way.close()


def test_a_restarted_run_replaces_what_it_repeats(tracker):
    run_id = tracker.continue_run("e", "store/train/repeats", {})
    for value in (1.0, 0.75):
        recorder = MlflowObserver(tracker.uri, run_id)()
        recorder.log(5, {"loss": value})
        recorder.close()
        time.sleep(0.002)
    assert tracker.history(run_id, "loss") == [(5, 0.75)]


def test_a_run_says_what_it_runs_on_and_what_it_is_a_part_of(tracker):
    parent = tracker.continue_run("e", "store/tune/all", {})
    run_id = tracker.continue_run("e", "store/tune/all/1", {"lr": "1"}, parent=parent)
    assert tracker.continue_run("e", "store/tune/all/1", {"lr": "1", "new": "2"}) == run_id
    for num in (1, 2):  # continued with another version
        tracker.describe(run_id, {"version.torch": str(num)})
        tracker.trained_on(run_id, {"s3://b/manifest.parquet": "a" * 64})
    found = tracker.client.get_run(run_id)
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.tags["version.torch"] == "2"
    assert found.data.params == {"lr": "1", "new": "2"}
    (used,) = found.inputs.dataset_inputs
    assert used.dataset.name == "manifest.parquet"
    assert used.dataset.digest == "a" * 36


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_outlives_its_tracking_server_and_catches_up(
    cluster, server, tmp_path, monkeypatch, capsys
):
    way = Way(urlsplit(server).port)
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{way.port}")
    upload(str(tmp_path / "photos"), 6)
    prepare.run(PrepareJob(photos=str(tmp_path / "photos"), holdout=0.3))
    job = training(steps=40, checkpoint_every=8)
    shelf = StoredShelf(place.run_folder("way"))

    def cut():
        while not shelf.complete():
            time.sleep(0.02)
        way.cut()

    threading.Thread(target=cut, daemon=True).start()
    with pytest.raises(JobError, match=r"at its end, but not registered: .* the same command"):
        train.run(job)
    told = capsys.readouterr().out
    assert told.count("cannot be reached") == 2  # the numbers wait; the run stays open
    assert "logs or pictures have not reached MLflow: they wait in" in told
    assert (tmp_path / "train" / "way" / "unsent.jsonl").exists()

    way.open()
    done = train.run(job)
    assert not (tmp_path / "train" / "way" / "unsent.jsonl").exists()
    tracker = Tracker()
    assert [step for step, _ in tracker.history(done.run_id, "loss")] == [*range(3, 40, 3), 40]
    assert len(tracker.times_s(done.run_id, "val_psnr_db")) == 5
    pictures = tracker.pictures(done.run_id)
    assert all(paths.keys() == {8, 16, 24, 32, 40} for paths in pictures.values())
    assert tracker.run(done.run_id).status == "FINISHED"
    way.close()
