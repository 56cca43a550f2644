"""A trial that is a training run, its workers taken out: what it tells, and how it ends."""

import dataclasses
import threading
from types import SimpleNamespace

import pytest

from jobs import recipes
from jobs.errors import JobError
from jobs.search import run_trials
from jobs.search.run_trials import RunTrial, UnderWay
from jobs.training.runs import shelf_of
from laformer.checkpoint import Snapshot
from laformer.errors import TrainingError
from laformer.listening import STOP
from tests import networks

CONFIG = networks.config(steps=8)
JOB = dataclasses.replace(recipes.recipe("demo"), name="trial", train=CONFIG)


class Here:
    """Makes an actor that is an object of this process."""

    def __init__(self, kind):
        self.kind = kind

    def remote(self):
        made = self.kind()
        calls = {name: SimpleNamespace(remote=getattr(made, name)) for name in ("add", "take")}
        return SimpleNamespace(**calls)


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    """Let runs go on without Ray; return what is wanted of their workers."""
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path))
    wishes = []
    notices = SimpleNamespace(want=wishes.append)
    monkeypatch.setattr(run_trials, "here", Here)
    monkeypatch.setattr(run_trials, "POLL_S", 0.01)
    monkeypatch.setattr(run_trials.ray, "get", lambda value: value)
    monkeypatch.setattr(run_trials.Notices, "create", lambda: notices)
    monkeypatch.setattr(run_trials, "start", lambda _job, _shared, scores, _notices: scores)
    return wishes


def begun(monkeypatch, fit):
    monkeypatch.setattr(run_trials.train, "fit", lambda _job, _cluster, scores: fit(scores))
    return UnderWay(JOB, SimpleNamespace(cluster=None))


def test_validations_come_one_by_one_and_then_what_ended_the_run(wanted, monkeypatch):
    def fit(scores):
        scores.add.remote(4, 20.0)
        scores.add.remote(6, 21.0)
        raise JobError("no room")

    run = begun(monkeypatch, fit)
    assert run.next_after(0) == (4, 20.0)
    assert run.next_after(4) == (6, 21.0)
    with pytest.raises(JobError, match="no room"):
        run.next_after(6)


def test_a_run_that_ends_before_its_last_step_says_so(wanted, monkeypatch):
    run = begun(monkeypatch, lambda scores: scores.add.remote(4, 20.0))
    assert run.next_after(0) == (4, 20.0)
    with pytest.raises(TrainingError, match="the run ended after 4 of its 8 steps"):
        run.next_after(4)


def test_a_run_that_was_at_its_end_before_tells_its_score(wanted, monkeypatch):
    state = networks.state(CONFIG)
    state.step = 8
    shelf_of(JOB).store(8, Snapshot.take(state, {"val_psnr_db": 23.5}).files())
    assert begun(monkeypatch, lambda _scores: None).next_after(0) == (8, 23.5)


def test_a_trial_that_is_ended_asks_its_workers_to_end_and_waits(wanted, monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(
        run_trials.Notices,
        "create",
        lambda: SimpleNamespace(want=lambda wish: (wanted.append(wish), asked.set())),
    )
    run = begun(monkeypatch, lambda _scores: asked.wait(60))
    trial = object.__new__(RunTrial)
    trial.under_way = run
    trial.cleanup()
    assert wanted == [STOP]
    assert not run.thread.is_alive()
    trial.cleanup()
    assert wanted == [STOP]


def test_a_trial_leaves_a_pointer_to_its_last_validation(tmp_path):
    donor, heir = object.__new__(RunTrial), object.__new__(RunTrial)
    donor.under_way, donor.last = SimpleNamespace(job=JOB), 4
    donor.save_checkpoint(str(tmp_path))
    heir.load_checkpoint(str(tmp_path))
    assert heir.pointer == {"run": "trial", "step": 4}
