"""The page of a run: from what MLflow has of it, whatever became of the run."""

import re

import numpy as np
import pytest

from jobs import cli, place, recipes, report
from jobs.config import ReportJob
from jobs.errors import JobError
from jobs.tracking import Tracker
from jobs.training.recording import MlflowObserver
from laformer.patience import ENDED_EARLY
from pipelines import storage

PARAMS = {
    "task": "denoise-gaussian-25",
    "train.steps": "40",
    "train.lr": "0.005",
    "manifest_sha256": "0123456789abcdef",
    "git_revision": "fedcba9876543210",
    "init": "laformer-x/3",
}
GT = np.full((16, 16, 3), 100, np.uint8)


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return Tracker()


def record(tracker, name, steps=(10, 20), starts=(0,)):
    """Record a run that gets better by a level a validation; return its id."""
    run_id = tracker.continue_run("laformer-t", place.run_folder(name), PARAMS)
    recorder = MlflowObserver(tracker.uri, run_id)()
    for start in starts:
        recorder.log(start, {"workers": 2.0})
    for step in steps:
        restored = GT - np.uint8(5 - steps.index(step))
        recorder.log(step, {"loss": 1 / step, "lr": 1e-4, "samples_per_s": 1234.5})
        recorder.log(step, {"replaced_samples": 3.0, "loss.fft": 0.5, "psnr_db.kodak24": 30.0})
        psnr_db = 20.0 + step / 10
        recorder.log(step, {"val_psnr_db": psnr_db, "val_psnr_db.gaussian-colour": psnr_db})
        recorder.picture(step, "a b.png", np.concatenate([GT - 9, restored, GT], axis=1))
    recorder.close()
    assert not recorder.lost
    return run_id


def page(name):
    html = storage.get(report.run(ReportJob(run=name))).decode()
    text = re.sub(r"<(script|style)>.*?</\1>", " ", html, flags=re.DOTALL)
    return html, " ".join(re.sub(r"<[^>]*>", " ", text).replace("\N{NO-BREAK SPACE}", " ").split())


def test_a_running_run_shows_how_far_it_is(tracker):
    record(tracker, "mine")
    html, text = page("mine")
    assert "status running, last heard of " in text
    assert "step 20 of 40" in text
    assert "best held-out PSNR 22.00 dB at step 20" in text
    assert "workers 2 restarts 0" in text
    assert "replaced samples 3" in text
    assert "first weights laformer-x/3" in text
    assert "samples 0123456789ab code fedcba987654" in text
    assert "train.lr 0.005" in text
    assert "1,234 at step 20" in text
    assert "loss.fft" in text
    assert "kodak24" not in text
    assert text.count("PSNR of held-out photos, gaussian-colour") == 1
    assert f"train --job {place.run_folder('mine')}/job.json" in text
    assert html.index("<h2>Training</h2>") < html.index("<h2>Photos</h2>")


def test_photos_go_from_degraded_over_all_validations_to_the_truth(tracker):
    record(tracker, "mine", steps=tuple(range(1, 6)))
    _, text = page("mine")
    labels = re.findall(r"degraded: [\d.]+|step \d: [\d.]+|ground", text.split("over time")[1])
    first, *steps, last = labels
    assert (first, last) == ("degraded: 29.05", "ground")
    assert [step[:7] for step in steps] == [f"step {step}:" for step in range(1, 6)]
    assert steps[-1] == "step 5: 48.13"


def test_many_validations_are_thinned_to_first_and_last(tracker):
    run_id = record(tracker, "mine", steps=(1, 2, 3, 4, 5))
    found = tracker.find_run(run_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FRAMES", 3)
        ((key, frames),) = report.strips(found, tracker)
    assert key == "a b.png"
    assert [step for step, _ in frames] == [1, 3, 5]


@pytest.mark.parametrize(
    ("early", "failed", "status"),
    [
        ({}, True, "failed"),
        ({}, False, "finished at step 20 of 40"),
        ({20: 3.0}, False, "ended early: 3 validations without a better one"),
        ({10: 1.0}, False, "finished at step 20 of 40"),  # more patience went on from there
    ],
)
def test_an_ended_run_says_how(tracker, early, failed, status):
    run_id = record(tracker, "mine", starts=(0, 10, 15))
    for step, since in early.items():
        tracker.metrics(run_id, {ENDED_EARLY: since}, step)
    tracker.finish_run(run_id, failed=failed)
    _, text = page("mine")
    assert f"status {status}" in text
    assert "restarts 2" in text
    assert "ended_early" not in text


def test_a_run_that_a_signal_ended_says_so(tracker):
    run_id = record(tracker, "mine")
    with pytest.raises(KeyboardInterrupt), tracker.ending(run_id):
        raise KeyboardInterrupt
    assert "status stopped by a signal at step 20 of 40" in page("mine")[1]


def test_a_run_without_a_number_has_a_page(tracker):
    tracker.continue_run("laformer-t", place.run_folder("it's new"), PARAMS)
    _, text = page("it's new")
    assert "step 0 of 40" in text
    assert "Photos" not in text


def test_a_run_is_found_by_name_or_id_or_explained(tracker, tmp_path, monkeypatch):
    run_id = record(tracker, "mine")
    assert tracker.find_run("mine").id == tracker.find_run(run_id).id == run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "elsewhere"))
    assert Tracker().find_run("mine").id == run_id
    with pytest.raises(JobError, match=r"no run 'yours' in sqlite:.*; the last are: mine"):
        report.run(ReportJob(run="yours"))


def test_the_command_to_resume_reads_a_job_in_a_bucket(s3):
    job = cli.parse(["train", "demo", "--name", "far"])
    storage.put(f"{s3}/runs/job.json", recipes.to_json(job).encode())
    assert cli.parse(["train", "--job", f"{s3}/runs/job.json"]) == job
    with pytest.raises(JobError, match=r"no job file s3://tests/none/job\.json"):
        cli.parse(["train", "--job", f"{s3}/none/job.json"])
