"""What one worker does when something is wanted of it, with Ray's answers given by the test."""

from types import SimpleNamespace

import pytest
import torch

from laformer import worker
from laformer.errors import LeavingError
from laformer.keeper import Keeper
from laformer.listening import SAVE, STOP
from laformer.patience import Record
from tests.networks import config, state
from tests.shelves import FolderShelf

TRAIN = config(steps=100, checkpoint_every=50, log_every=1000)


class Listener:
    """Takes what a worker tells, and wants what the test says."""

    def __init__(self):
        self.lines, self.wish = [], ""

    def tell(self, text):
        self.lines.append(text)

    def wanted(self):
        return self.wish


@pytest.fixture
def reports(monkeypatch):
    """Answer as Ray does in a group of one; return what is reported to it."""
    told = []
    train = worker.ray.train
    monkeypatch.setattr(train.collective, "broadcast_from_rank_zero", lambda value: value)
    monkeypatch.setattr(train, "get_preemption_info", lambda: None)
    monkeypatch.setattr(train, "report", lambda metrics, **_: told.append(metrics))
    return told


@pytest.fixture
def alone(reports, tmp_path):
    """Return a worker after step 20, which asks after the next one."""
    trained, notices = state(TRAIN), Listener()
    trained.step = 20
    job = SimpleNamespace(train=TRAIN, notices=notices, facts={})
    watchdog = SimpleNamespace(beat=lambda: None)
    found = worker.Worker(job, trained, Record(), watchdog, rank=0, size=1)
    found.keeper = Keeper(FolderShelf(tmp_path), 3, notices.tell)
    yield found
    found.keeper.close()


def step(alone, num=1):
    for _ in range(num):
        alone.state.step += 1
        result = SimpleNamespace(skipped=False, loss=torch.tensor(0.1), sample_ids=[1, 2])
        alone._after_step(alone.state, result)


def stored(alone):
    assert alone.keeper.settled(60)
    return alone.keeper.shelf.steps()


def test_a_worker_that_nobody_wants_anything_of_goes_on(alone, reports):
    step(alone, 2)
    assert not alone._over()
    assert stored(alone) == reports == []


def test_a_save_is_stored_and_the_run_goes_on(alone, reports):
    alone.job.notices.wish = SAVE
    step(alone)
    assert stored(alone) == [21]
    assert [(each["step"], each["over"]) for each in reports] == [(21, False)]
    assert not alone._over()


def test_an_end_is_stored_first(alone, reports):
    alone.job.notices.wish = STOP
    step(alone)
    assert alone._over()
    assert stored(alone) == [21]
    assert [(each["step"], each["over"]) for each in reports] == [(21, True)]


def test_a_step_is_saved_once_and_keeps_its_score(alone, reports):
    alone._save({"val_psnr_db": 30.0})
    alone._save({})
    assert stored(alone) == [20]
    assert alone.keeper.shelf.scores() == {20: 30.0}
    assert len(reports) == 1


def test_workers_leave_a_host_when_their_step_is_stored(alone, monkeypatch):
    monkeypatch.setattr(worker.ray.train, "get_preemption_info", object)
    with pytest.raises(LeavingError, match="step 21"):
        step(alone)
    assert alone.keeper.shelf.steps() == [21]
    assert alone.job.notices.lines == ["a host is about to be taken away; saving step 21"]


def test_workers_that_cannot_store_stay(alone, monkeypatch):
    monkeypatch.setattr(worker.ray.train, "get_preemption_info", object)
    monkeypatch.setattr(alone.keeper, "settled", lambda _: False)
    step(alone)
    assert not alone._over()
    monkeypatch.undo()


def test_a_start_saves_on_its_way_to_the_first_checkpoint(alone, reports):
    alone.listening.next_step = 1000
    step(alone, 29)
    assert [each["step"] for each in reports] == [32]
