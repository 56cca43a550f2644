"""What becomes of checkpoints while storage works, fails, or comes back."""

import threading
import time

import pytest

from laformer import keeper
from laformer.checkpoint import Snapshot
from laformer.errors import CheckpointError
from laformer.keeper import Keeper
from laformer.loop import fit
from laformer.patience import Record
from tests.networks import batches, config, state
from tests.shelves import FolderShelf

TRAIN = config(steps=8)


class Faulty(FolderShelf):
    """Fails `failures` times with `error`, after the first file."""

    def __init__(self, root, failures, error=None):
        super().__init__(root)
        self.failures, self.error = failures, error or OSError(28, "No space left on device")
        self.failed = threading.Event()

    def store(self, step, files):
        if self.failures:
            self.failures -= 1
            super().store(step, [next(iter(files))])
            self.failed.set()
            raise self.error
        super().store(step, files)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(keeper, "LONGEST_PAUSE_S", 0.001)


@pytest.fixture
def snapshots():
    """Return those of steps 1 to 5, with the best score at step 2."""
    return scored(20.0, 30.0, 25.0, 25.0, 26.0)


def scored(*scores):
    """Return the snapshots of as many steps by step, each with its score and the best so far."""
    trained, taken, record = state(TRAIN), {}, Record()
    for step, score in enumerate(scores, start=1):
        fit(trained, batches(8)[step - 1 : step], TRAIN)
        record = record.after(step, score)
        taken[step] = Snapshot.take(trained, {"val_psnr_db": score} | record.facts)
    return taken


def test_the_last_ones_and_the_best_stay(tmp_path, snapshots):
    told = []
    kept = Keeper(FolderShelf(tmp_path), 2, told.append)
    for snapshot in snapshots.values():
        kept.put(snapshot)
    kept.close()
    assert kept.shelf.steps() == [5, 4, 2]
    assert told == []


def test_a_snapshot_is_not_changed_by_the_steps_that_follow(tmp_path):
    trained = fit(state(TRAIN), batches(2), TRAIN)
    snapshot = Snapshot.take(trained, {})
    before = dict(snapshot.files())
    fit(trained, batches(2), TRAIN)
    assert dict(snapshot.files()) == before


def test_storage_that_fails_is_tried_until_it_takes_the_checkpoint(tmp_path, snapshots):
    told = []
    kept = Keeper(Faulty(tmp_path, failures=3), 2, told.append)
    kept.put(snapshots[1])
    kept.close()
    assert list(kept.shelf.scores()) == [1]
    assert len(told) == 2
    assert "checkpoint of step 1 (" in told[0]
    assert "No space left on device; training goes on and it is tried again" in told[0]
    assert told[1].startswith("the checkpoint of step 1 is stored now")


def test_training_does_not_wait_for_storage_that_fails(tmp_path, monkeypatch):
    snapshots = scored(20.0, 30.0)
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(keeper, "LONGEST_PAUSE_S", 60.0)
    told = []
    shelf = Faulty(tmp_path, failures=1)
    kept = Keeper(shelf, 2, told.append)
    kept.put(snapshots[1])
    shelf.failed.wait()
    kept.put(snapshots[2])  # returns, and is stored without the pause
    kept.close()
    assert list(shelf.scores()) == [2]
    assert "warning: the checkpoint of step 1 is let go for that of step 2" in told


class Away(FolderShelf):
    """Takes nothing until it is back; `tried` names the steps that it refused."""

    def __init__(self, root):
        super().__init__(root)
        self.back, self.tried = threading.Event(), []

    def store(self, step, files):
        if not self.back.is_set():
            self.tried.append(step)
            raise OSError(5, "Input/output error")
        super().store(step, files)


@pytest.mark.parametrize(
    ("scores", "stored", "let_go"),
    [
        ((20.0, 30.0, 25.0, 25.0, 26.0), {2, 5}, {1, 3, 4}),  # the best comes early
        ((20.0, 30.0, 25.0, 31.0, 26.0), {4, 5}, {1, 2, 3}),  # and a better one after it
        ((20.0, 21.0, 22.0, 23.0, 24.0), {5}, {1, 2, 3, 4}),  # the newest is the best
    ],
)
def test_of_what_storage_did_not_take_the_newest_and_the_best_are_kept(
    tmp_path, scores, stored, let_go
):
    told, shelf = [], Away(tmp_path)
    kept = Keeper(shelf, 3, told.append)
    for step, snapshot in scored(*scores).items():
        kept.put(snapshot)
        while step not in shelf.tried:
            time.sleep(0.001)
        assert len(kept._unstored()) <= 3
    shelf.back.set()
    kept.close()
    assert set(shelf.scores()) == stored
    gone = [line for line in told if "is let go for" in line]
    assert {int(line.split("of step ")[1].split()[0]) for line in gone} == let_go


def test_a_run_whose_last_checkpoint_is_not_stored_does_not_end_well(tmp_path, snapshots):
    kept = Keeper(Faulty(tmp_path, failures=10**9), 2, lambda _: None)
    kept.put(snapshots[5])
    with pytest.raises(
        CheckpointError, match=r"step 5 could not be stored .*No space left.*same command again"
    ):
        kept.close(patience_s=0.05)
    assert kept.shelf.scores() == {}
    kept.shelf.failures = 0  # lets the thread end
    kept.close()


def test_old_checkpoints_that_cannot_be_removed_are_told(tmp_path, snapshots, monkeypatch):
    def refuse(_):
        raise PermissionError("not yours")

    told = []
    kept = Keeper(FolderShelf(tmp_path), 1, told.append)
    monkeypatch.setattr(kept.shelf, "drop", refuse)
    for step in (2, 3, 4):
        kept.put(snapshots[step])
    kept.close()
    assert kept.shelf.steps() == [4, 3, 2]
    assert told == ["warning: old checkpoints were not removed: not yours"]
