"""The checkpoints of a run in storage, whole or failing."""

import os
import threading
import uuid
from contextlib import closing

import pytest
import torch

from jobs.checkpoints import StoredShelf
from laformer import checkpoint, keeper, shelf
from laformer.checkpoint import Snapshot
from laformer.keeper import Keeper
from laformer.loop import fit
from pipelines import clients, storage
from pipelines.errors import OutageError
from tests.flaky import Flaky
from tests.networks import batches, config, state

TRAIN = config(steps=8)


def snapshot(steps, psnr_db=20.0):
    trained = fit(state(TRAIN), batches(8)[:steps], TRAIN)
    return Snapshot.take(trained, {"val_psnr_db": psnr_db})


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.s3)])
def place(request, tmp_path):
    """Return a folder that is not there yet."""
    if request.param == "disk":
        return f"{tmp_path}/train/run"
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}/run"


def test_checkpoints_come_back_newest_first_and_go(place):
    kept = StoredShelf(place)
    assert kept.steps() == kept.complete() == []
    for steps, psnr_db in ((1, 20.0), (3, 22.0), (2, 22.0), (4, float("nan"))):
        kept.store(steps, snapshot(steps, psnr_db).files())
    storage.put(f"{place}/job.json", b"{}")
    assert kept.steps() == kept.complete() == [4, 3, 2, 1]
    assert kept.scores() == {4: None, 3: 22.0, 2: 22.0, 1: 20.0}
    assert kept.best_first() == [2, 3, 1]
    resumed = state(TRAIN, seed=5)
    shelf.load(kept, 3, resumed)
    assert resumed.step == 3
    for step in (4, 4, 3):
        kept.drop(step)
    assert kept.steps() == [2, 1]


def test_what_is_not_written_to_its_end_is_no_checkpoint(place):
    kept = StoredShelf(place)
    kept.store(1, snapshot(1).files())
    kept.store(2, list(snapshot(2).files())[:2])
    assert (kept.steps(), kept.complete()) == ([2, 1], [1])
    told = []
    assert shelf.load_newest(kept, state(TRAIN), told.append)["step"] == 1
    assert "instead of step 2" in told[0]
    assert "no checksums.json" in told[0]


def test_writing_a_checkpoint_again_takes_its_checksums_away_first(place):
    kept = StoredShelf(place)
    kept.store(1, snapshot(1).files())

    def cut_short():
        yield from list(snapshot(1).files())[:1]
        assert kept.complete() == []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.store(1, cut_short())
    assert kept.complete() == []


def test_an_empty_folder_on_a_disk_is_passed_over(tmp_path):
    kept = StoredShelf(str(tmp_path))
    kept.store(1, snapshot(1).files())
    (tmp_path / "step_00000002").mkdir()
    told = []
    assert shelf.load_newest(kept, state(TRAIN), told.append)["step"] == 1
    assert "step 2" in told[0]


def test_the_best_is_not_dropped_because_its_score_cannot_be_read_now(tmp_path, monkeypatch):
    kept = StoredShelf(str(tmp_path))
    kept.store(1, snapshot(1).files())

    def away(_):
        raise OutageError("the disk is away")

    monkeypatch.setattr(storage, "get", away)
    with pytest.raises(OutageError):
        kept.scores()


@pytest.mark.s3
@pytest.mark.parametrize(
    "message",
    [
        "AWS Error SLOW_DOWN during PutObject: 503",
        "AWS Error NETWORK_CONNECTION during PutObject: curlCode: 28, Timeout was reached",
        "AWS Error NETWORK_CONNECTION during PutObject: curlCode: 56, Connection reset by peer",
    ],
)
def test_a_bucket_that_fails_for_a_while_gets_the_checkpoint_in_the_end(s3, monkeypatch, message):
    monkeypatch.setattr(storage, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(storage, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.001)
    wrote, calls = storage._write, []

    def failing(uri, data):
        calls.append(uri)
        if len(calls) in range(2, 7):
            raise OSError(message)
        wrote(uri, data)

    monkeypatch.setattr(storage, "_write", failing)
    kept, told = StoredShelf(f"{s3}/{uuid.uuid4().hex}"), []
    keeping = Keeper(kept, 1, told.append)
    keeping.put(snapshot(2))
    keeping.close()
    assert kept.complete() == [2]
    assert "training goes on and it is tried again" in told[0]
    assert told[-1].startswith("the checkpoint of step 2 is stored now")
    resumed = state(TRAIN, seed=5)
    shelf.load(kept, 2, resumed)
    whole = fit(state(TRAIN), batches(8)[:2], TRAIN)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.s3
@pytest.mark.parametrize("fault", ["503", "reset", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_server_that_breaks_a_checkpoint_off_gets_it_when_it_is_back(s3, monkeypatch, fault):
    """The faults are on the wire, the clients those of training."""
    monkeypatch.setattr(clients, "STALL_TIMEOUT_S", 1.0)  # hanging, an attempt takes 22 s still
    monkeypatch.setattr(storage, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(storage, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.01)
    told, first_told = [], threading.Event()

    def tell(text):
        told.append(text)
        first_told.set()

    with closing(Flaky(os.environ["AWS_ENDPOINT_URL"])) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        kept = StoredShelf(f"{s3}/{uuid.uuid4().hex}")
        kept.store(1, snapshot(1).files())
        server.fault = fault
        keeping = Keeper(kept, 2, tell)
        keeping.put(snapshot(2))
        assert first_told.wait(60)
        assert kept.complete() == [1]
        keeping.put(snapshot(3))  # training goes on meanwhile
        server.fault = None
        keeping.close()
        assert server.broken
        assert kept.complete()[0] == 3
        resumed = state(TRAIN, seed=5)
        assert shelf.load_newest(kept, resumed, told.append)["step"] == 3
    assert "the checkpoint of step 2" in told[0]
    assert "training goes on and it is tried again" in told[0]
    assert any("is stored now" in line for line in told)


def test_a_full_disk_is_told_with_folder_and_bytes_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.001)
    wrote, failures = storage._write_local, [1, 1]

    def full(path, data):
        if path.name == checkpoint.STATE and failures:
            failures.pop()
            raise OSError(28, "No space left on device")
        wrote(path, data)

    monkeypatch.setattr(storage, "_write_local", full)
    kept, told = StoredShelf(str(tmp_path)), []
    keeping = Keeper(kept, 1, told.append)
    keeping.put(snapshot(2))
    keeping.close()
    assert kept.complete() == [2]
    assert f"{tmp_path}/step_00000002/{checkpoint.STATE}: the disk is full" in told[0]
    assert f"({snapshot(2).num_bytes >> 10} KiB)" in told[0]
