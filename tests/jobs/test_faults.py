"""Workers that are killed, hang or fail: the run goes on to the same bytes, or ends at once."""

import dataclasses
import json
from pathlib import Path

import pytest

from jobs import prepare, train
from jobs.checkpoints import StoredShelf
from jobs.config import PrepareJob
from jobs.tracking import Tracker
from laformer import checkpoint
from laformer.errors import TrainingError
from tests import faults
from tests.jobs.test_way import training, upload

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def store(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    patch = pytest.MonkeyPatch()
    patch.setenv("LAFORMER_STORE", str(folder))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    upload(str(folder / "photos"), 6)
    prepare.run(PrepareJob(photos=str(folder / "photos"), holdout=0.3))
    yield folder
    patch.undo()


def job(name, **options):
    fields = {"steps": 40, "checkpoint_every": 8, "segment_steps": 100} | options
    return dataclasses.replace(training(**fields), name=name)


def sums(store, name, step):
    folder = store / "train" / name / f"step_{step:08d}"
    checkpoint.verify(folder)
    found = json.loads((folder / checkpoint.SUMS).read_text())
    return {name: found[name] for name in (checkpoint.WEIGHTS, checkpoint.STATE)}


def test_a_killed_and_a_hanging_worker_cost_nothing(store, monkeypatch, capsys):
    train.run(job("whole"))
    told = capsys.readouterr().out
    assert "was lost" not in told
    assert "continuing" not in told
    shelf = StoredShelf(str(store / "train" / "whole"))
    best = shelf.best_first()[0]
    assert set(shelf.complete()) == {40, 32, 24, best}

    monkeypatch.setattr(train, "train_worker", faults.harmed)
    train.run(dataclasses.replace(job("harmed"), hang_s=20))
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert "worker 1 was lost (its process ended); continuing from step 8" in lines
    assert any("made no progress for 20 s and is ended" in line for line in lines)
    assert any("(its process ended); continuing from step 16" in line for line in lines)
    assert sums(store, "harmed", 40) == sums(store, "whole", 40)


def test_an_error_that_no_restart_mends_ends_the_run_at_once(store, monkeypatch):
    monkeypatch.setattr(train, "train_worker", faults.diverging)
    with pytest.raises(TrainingError, match="loss before step 3 is nan"):
        train.run(job("diverging"))
    for rank in (0, 1):
        assert (store / "train" / "diverging" / f"starts of rank {rank}").read_text() == "x"
    runs = Tracker().client.search_runs(["1"], "tags.`laformer.run` LIKE '%diverging'")
    assert [run.info.status for run in runs] == ["FAILED"]


def test_a_damaged_last_checkpoint_is_done_again(store, capsys):
    """Runs after the others: continues what they left."""
    before = sums(store, "whole", 40)
    path = Path(store / "train" / "whole" / f"step_{40:08d}" / checkpoint.STATE)
    path.write_bytes(path.read_bytes()[:-1])
    (path.parent / checkpoint.SUMS).rename(path.parent / "sums")
    # What Ray kept of an earlier version's run, cut short.
    (path.parents[1] / "checkpoint_manager_snapshot.json").write_text('{"ray_version"')
    train.run(job("whole"))
    told = capsys.readouterr().out
    assert "warning: using the checkpoint of step 32 instead of step 40" in told
    assert "continuing from step 32" in told
    assert sums(store, "whole", 40) == before
