"""Short runs on a disk: how they end, what they start from, what they tell."""

import dataclasses
import json

import pytest

from jobs import evaluate, place, prepare, recipes, report, train
from jobs.config import EvaluateJob, PrepareJob, ReportJob
from jobs.tracking import Tracker
from jobs.versions.registry import CANDIDATE, Registry
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from pipelines import images, storage
from pipelines.config import DataConfig
from pipelines.images import Photo
from tests.networks import MODEL, config
from tests.pipelines.test_training import photo

pytestmark = pytest.mark.ray

NAME = "laformer-denoise-gaussian-25"
STILL = 1e-12
"""A learning rate that leaves every validation as good as the first."""


def training(name, **options):
    demo = recipes.recipe("demo")
    steps = {"steps": 12, "checkpoint_every": 2, "log_every": 1, "segment_steps": 8}
    fields = {"patch_px": 16, "warmup_steps": 2, "final_lr": STILL} | steps | options
    return dataclasses.replace(
        demo,
        name=name,
        model=MODEL,
        train=dataclasses.replace(demo.train, **fields),
        data=DataConfig(crops_per_visit=2, validation_px=32),
    )


@pytest.fixture(scope="module")
def store(cluster, tmp_path_factory):
    """Point the jobs at a folder with a few photos."""
    folder = tmp_path_factory.mktemp("store")
    patch = pytest.MonkeyPatch()
    patch.setenv("LAFORMER_STORE", str(folder))
    for i in range(6):
        data = images.encode(Photo(pixels=photo(i, size=(40, 52)), alpha=None), ".png")
        storage.put(str(folder / "photos" / f"{i}.png"), data)
    prepare.run(PrepareJob(photos=str(folder / "photos"), holdout=0.3))
    yield folder
    patch.undo()


def test_a_run_that_is_stopped_is_killed_in_mlflow_and_taken_up_there(store, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", stopped)
    ids = set()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train.run(training("stopped"))
        run = Tracker().find_run("stopped")
        assert run.status == "KILLED"
        ids.add(run.id)
    assert len(ids) == 1


@pytest.fixture(scope="module")
def first(store):
    """Register a network that has learned nothing, as the candidate."""
    state = State.create(LAformer(MODEL), config())
    checkpoint.save(store / "random", state, {})
    checkpoint.release(store / "random", store / "released")
    sums = json.loads((store / "released" / checkpoint.SUMS).read_text())
    run_id = Tracker().continue_run("e", str(store / "random"), {})
    version = Registry().register(
        NAME, store / "released", run_id, {"sha256": sums[checkpoint.MODEL]}
    )
    Registry().nominate(version)
    return version


def patient(patience):
    """Return a run that has nothing to gain, validates whole photos and starts from a model."""
    job = training("early", lr=STILL, patience=patience)
    data = DataConfig(crops_per_visit=2, validation_px=0)
    return dataclasses.replace(job, init=f"models:/{NAME}@{CANDIDATE}", data=data)


@pytest.fixture(scope="module")
def early(first):
    """Train with no patience."""
    return train.run(patient(1))


def test_a_run_ends_when_nothing_gets_better(early, capsys):
    tracker = Tracker()
    scores = tracker.history(early.run_id, "val_psnr_db")
    assert [step for step, _ in scores] == [2, 4]
    assert scores[0][1] == scores[1][1]
    assert early.version.tags["step"] == "2"
    assert tracker.client.get_run(early.run_id).info.status == "FINISHED"
    again = train.run(patient(1))
    assert again.version.number == early.version.number
    out = capsys.readouterr().out
    assert "early has done its 4 steps before" in out
    assert "stopped at step 4 of 12: no held-out PSNR above the " in out
    assert "of step 2 in 1 validations" in out


@pytest.mark.slow
def test_more_patience_goes_on_from_where_it_ended(early):
    train.run(patient(2))
    steps = [step for step, _ in Tracker().history(early.run_id, "val_psnr_db")]
    assert steps == [2, 4, 6]


def test_a_run_starts_from_a_registered_model_and_validates_whole_photos(first, early):
    assert early.facts["init"]["model"] == str(first)
    assert early.facts["init"]["sha256"] == first.tags["sha256"]
    assert early.version.tags["init"] == str(first)
    kept = recipes.from_json(storage.get(f"{place.run_folder('early')}/job.json").decode())
    assert kept.init == str(first)
    # The weights are those of the model still, and so is its score on the same photos.
    (score,) = evaluate.run(EvaluateJob(model=str(early.version)))
    assert score.protocol == "gaussian-colour"
    for metric in ("val_psnr_db", "val_psnr_db.gaussian-colour"):
        (step, psnr_db), *_ = Tracker().history(early.run_id, metric)
        assert step == 2
        assert psnr_db == pytest.approx(score.psnr_db, abs=1e-3)


def test_every_run_has_a_page(early, tmp_path):
    page = report.run(ReportJob(run="early", target=str(tmp_path / "page.html")))
    html = storage.get(page).decode()
    assert "ended early" in html
    titles = [title for title, _, metric in report.CURVES if metric != "gpu_memory_mb"]
    assert all(f"<h3>{title}" in html for title in titles)
    assert "degraded: " in html
