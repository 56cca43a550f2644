"""Workers that are killed, hang or fail: the run goes on to the same bytes, or ends at once."""

import dataclasses

import pytest

from jobs import prepare, train
from jobs.config import PrepareJob
from jobs.tracking import Tracker
from laformer.errors import TrainingError
from tests import faults
from tests.jobs.test_way import in_two_stages, sums, upload

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


def test_a_killed_and_a_hanging_worker_cost_nothing(store, undisturbed, monkeypatch, capsys):
    monkeypatch.setattr(train, "train_worker", faults.harmed)
    train.run(dataclasses.replace(in_two_stages("harmed"), hang_s=30))
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert "worker 1 was lost (its process ended); continuing from step 8" in lines
    assert any("made no progress for 3 s and is ended" in line for line in lines)
    assert any("(its process ended); continuing from step 16" in line for line in lines)
    assert sums(str(store / "train" / "harmed"), 40) == undisturbed.sums


def test_an_error_that_no_restart_mends_ends_the_run_at_once(store, monkeypatch):
    monkeypatch.setattr(train, "train_worker", faults.diverging)
    with pytest.raises(TrainingError, match="loss before step 3 is nan"):
        train.run(in_two_stages("diverging"))
    for rank in (0, 1):
        assert (store / "train" / "diverging" / f"starts of rank {rank}").read_text() == "x"
    runs = Tracker().client.search_runs(["1"], "tags.`laformer.run` LIKE '%diverging'")
    assert [run.info.status for run in runs] == ["FAILED"]
