"""MLflow as the jobs use it: the same on a sqlite file and on a server."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from jobs.errors import JobError
from jobs.tracking import CANDIDATE, MlflowObserver, Tracker
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from pipelines import images
from tests.networks import MODEL, config


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

    name = f"model-{tmp_path.name}"
    version = tracker.register(name, released, run_id, {"sha256": "1", "task": "t"})
    assert tracker.register(name, released, run_id, {"sha256": "1"}) == version
    assert tracker.alias(name, CANDIDATE) is None
    tracker.nominate(version)
    assert tracker.resolve(f"{name}@{CANDIDATE}") == version
    assert tracker.resolve(f"{name}/1") == version
    assert [v for v in tracker.champions() if v.name == name] == []
    tracker.promote(version)
    assert [v for v in tracker.champions() if v.name == name] == [version]
    tracker.tag(version, {"psnr_db.b": "27.0"})
    assert tracker.resolve(str(version)).tags["psnr_db.b"] == "27.0"
    folder = tracker.download(version, tmp_path / "down")
    assert checkpoint.load_model(folder).config == MODEL

    with pytest.raises(JobError, match=rf"no model 'ghost/1' .*registered are: .*{name}"):
        tracker.resolve("ghost/1")
    with pytest.raises(JobError, match="no model 'without-version'"):
        tracker.resolve("without-version")


def test_training_outlives_a_tracking_server_that_goes_away(tracker):
    run_id = tracker.continue_run("e", "store/train/away", {})
    recorder = MlflowObserver(tracker.uri, run_id)()
    recorder.run_id = "no-such-run"
    recorder.log(1, {"loss": 1.0})
    recorder.close()
    assert recorder.lost == 1
