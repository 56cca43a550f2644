"""Searches on Ray: small trials, populations, trials of workers; what is kept of them."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest
import ray
import torch

from jobs import cli, prepare, recipes, tune
from jobs.config import PrepareJob, TuneJob
from jobs.errors import JobError
from jobs.search import samples
from jobs.search.journal import Journal
from jobs.search.plan import Plan, shortened
from jobs.search.samples import Shared, batches, decoded
from jobs.search.trials import Fitting
from jobs.tracking import Tracker
from jobs.training import inputs
from jobs.versions.registry import Registry
from laformer import loop
from pipelines import images, storage
from pipelines.config import DataConfig
from pipelines.images import Photo
from pipelines.tasks import find
from tests.networks import MODEL
from tests.pipelines.test_training import photo

pytestmark = [pytest.mark.ray, pytest.mark.s3]

EXPERIMENT = "laformer-denoise-gaussian-25"


@pytest.fixture(scope="module")
def store(s3, tmp_path_factory):
    """Point the jobs at a bucket with photos and a sqlite file for tracking."""
    patch = pytest.MonkeyPatch()
    uri = f"{s3}/tune"
    patch.setenv("LAFORMER_STORE", uri)
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    for index in range(6):
        data = images.encode(Photo(pixels=photo(index, size=(40, 52)), alpha=None), ".png")
        storage.put(f"{uri}/photos/{index}.png", data)
    prepare.run(PrepareJob(photos=f"{uri}/photos", holdout=0.3))
    yield uri
    patch.undo()


def recipe(name, **options):
    demo = recipes.recipe("demo")
    fields = {"steps": 16, "patch_px": 16, "warmup_steps": 2, "segment_steps": 8} | options
    return dataclasses.replace(
        demo,
        name=name,
        model=MODEL,
        train=dataclasses.replace(demo.train, **fields),
        data=DataConfig(crops_per_visit=2, validation_px=32),
    )


def search(name, **options):
    job = {"space": "training", "trials": 5} | options
    return TuneJob(job=recipe(name), **job)


@pytest.fixture(scope="module")
def found(cluster, store):
    return tune.run(search("small"))


def test_a_search_leaves_a_job_that_trains(found, store):
    assert len(found.over) == 5
    assert found.step_fraction < 1
    job = cli.parse(["train", "--job", f"{store}/tune/small/job.json"])
    assert job == found.best
    assert job.name == "small-best"
    kept = json.loads(storage.get(f"{store}/tune/small/result.json"))
    assert kept["best"]["trial"] == found.winner.number
    assert kept["trials"]["running"] == 0
    assert "Search small" in storage.get(f"{store}/tune/small/search.html").decode()
    assert all(record.startup_s > 0 for record in found.records)
    assert len({record.process for record in found.records}) <= 3


def test_the_same_command_again_runs_nothing(found, capsys):
    before = Journal("small").records()
    again = tune.run(search("small"))
    assert Journal("small").records() == before
    assert again.winner == found.winner
    with pytest.raises(JobError, match=r"search_seed was 0, is 1.*--name"):
        tune.run(search("small", search_seed=1))


def test_more_trials_continue_and_mlflow_has_each_once(found, store):
    more = tune.run(search("small", trials=6))
    assert more.records[:5] == found.records
    assert len(more.over) == 6
    client = Tracker().client
    experiment = client.get_experiment_by_name(EXPERIMENT)
    parents = client.search_runs([experiment.experiment_id], "params.kind = 'search'")
    assert len(parents) == 1
    parent = parents[0].info.run_id
    children = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    assert sorted(int(run.data.params["trial"]) for run in children) == list(range(6))
    for run in children:
        record = more.records[int(run.data.params["trial"])]
        assert tuple(Tracker().history(run.info.run_id, "val_psnr_db")) == record.points
        job = found.space.apply(recipe("small"), record.values)
        assert run.data.params["train.lr"] == str(job.train.lr)
        assert run.data.params["model.dim"] == "8"
        assert run.info.status == "FINISHED"
    assert parents[0].data.metrics["best_val_psnr_db"] > 0
    assert {file.path for file in client.list_artifacts(parent)} == {"job.json", "search.html"}
    assert Tracker().artifact(parent, "job.json") == storage.get(f"{store}/tune/small/job.json")
    assert b"6 of 6 trials" in Tracker().artifact(parent, "search.html")
    kept = client.get_run(parent)
    assert {"devices", "version.torch", "mlflow.source.git.commit"} <= kept.data.tags.keys()
    assert len(kept.inputs.dataset_inputs) == 1


def test_a_trial_learns_what_one_worker_of_a_run_learns(cluster, store):
    job = recipe("same")
    task = find(job.task)
    staged = inputs.samples(job, inputs.manifest_uris(job), task)
    mine = list(batches(staged, 0, 16, decoded, "cpu"))
    shared = list(batches(staged, 0, 16, Shared.start(1 << 20), "cpu"))
    assert [b.sample_ids.tolist() for b in mine] == [
        list(range(4 * s, 4 * s + 4)) for s in range(16)
    ]
    assert all(torch.equal(a.lq, b.lq) for a, b in zip(mine, shared, strict=True))
    first, second = (Fitting.create(job, decoded, torch.device("cpu")) for _ in range(2))
    loop.fit(first.state, mine, job.train)
    second.until(5)
    second.until(16)
    assert all(
        torch.equal(value, second.state.ema[name]) for name, value in first.state.ema.items()
    )


def test_blocks_are_decoded_once_for_all_trials(cluster, store):
    job = recipe("once")
    staged = inputs.samples(job, inputs.manifest_uris(job), find(job.task))
    shared = samples.Shared.start(1 << 30)
    for _ in range(3):
        num = len(list(shared(staged.streams[0], staged.streams[0].cut(0, 16, 1))))
    assert ray.get(shared.pantry.count.remote()) == num


@pytest.mark.slow
def test_a_population_goes_on_from_the_weights_of_better_trials(cluster, store):
    found = tune.run(search("population", scheduler="pbt", trials=4))
    changed = [(record, change) for record in found.records for change in record.changes]
    assert changed
    for record, change in changed:
        donor = found.records[change.donor]
        assert donor.number != record.number
        assert change.step in dict(donor.points)
        assert any(step > change.step for step, _ in record.points)
    assert all(record.steps == 16 for record in found.finished)


def test_several_objectives_give_a_front(cluster, store):
    job = search("front", space="tiny", over=("model.dim", "model.kernel"), trials=3)
    found = tune.run(dataclasses.replace(job, objectives=("psnr", "params")))
    assert len(found.finished) == 3
    assert found.front
    page = storage.get(f"{store}/tune/front/search.html").decode()
    assert "psnr against params" in page


@pytest.mark.slow
def test_a_value_that_does_not_fit_ends_its_trial_alone(cluster, store):
    job = search("unfit", space="samples", over=("train.patch_px",), search="grid", trials=6)
    found = tune.run(job)
    ends = {record.values["train.patch_px"]: record.status for record in found.records[1:]}
    assert found.records[0].points != found.records[1].points  # of 16 and of 32 pixels
    assert ends[48] == ends[128] == "failed"
    assert "no training photo of at least 48 x 48" in found.records[2].error


@pytest.mark.slow
def test_trials_of_workers_are_runs_that_are_ended_and_go_on(cluster, store):
    job = search("runs", trials=2)
    job = dataclasses.replace(job, job=dataclasses.replace(job.job, workers=2))
    found = tune.run(job)
    assert len(found.over) == 2
    assert found.finished
    assert found.records[0].devices == 2
    assert storage.exists(f"{store}/train/runs-trial-00000")


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_search_that_was_ended_repeats_no_trial(cluster, store, tmp_path, sign):
    name = f"ended-{int(sign)}"
    job = recipe(name, steps=64)
    (tmp_path / "job.json").write_text(recipes.to_json(job))
    words = ["tune", "--job", str(tmp_path / "job.json"), "--space", "training", "--trials", "6"]
    log = tmp_path / "log"
    with log.open("w") as file:
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *words], stdout=file, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 240
        while sum(r.status != "running" for r in Journal(name).records()) < 2:
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        driver.send_signal(sign)
        code = driver.wait(timeout=60)
    if sign == signal.SIGINT:
        assert code == 130
        assert "trials are over, kept in" in log.read_text()
    over = [record for record in Journal(name).records() if record.status != "running"]
    found = tune.run(cli.parse(words))
    assert len(found.over) == 6
    by_number = {record.number: record for record in found.records}
    assert all(by_number[record.number].points == record.points for record in over)


@pytest.mark.slow
def test_the_best_values_are_trained_to_the_end_of_the_recipe(cluster, store):
    job = search("chosen", trials=2, steps=8, train_best=True)
    found = tune.run(job)
    run = Tracker().find_run("chosen-best")
    assert run.status == "FINISHED"
    assert (run.params["train.steps"], run.params["train.lr"]) == ("16", str(found.best.train.lr))
    version = Registry().resolve(f"{EXPERIMENT}@candidate")
    assert (version.run_id, version.tags["seed"]) == (run.id, "0")
    tune.run(job)
    assert Registry().resolve(f"{EXPERIMENT}@candidate") == version


@pytest.mark.slow
def test_a_search_ends_when_its_hours_are_over_and_goes_on_later(cluster, store):
    found = tune.run(search("timed", trials=500, hours=45 / 3600))
    over = {record.number: record for record in found.over}
    assert 0 < len(over) < 500
    kept = {record.number: record for record in Journal("timed").records()}
    assert {n for n, record in kept.items() if record.status != "running"} == over.keys()
    more = tune.run(search("timed", trials=max(kept) + 2))
    assert len(more.over) == max(kept) + 2
    assert all(more.records[number].points == record.points for number, record in over.items())


def test_a_shorter_job_keeps_its_shape():
    job = recipes.recipe("denoise-gaussian")
    short = shortened(job, 3000)
    assert [stage.first_step for stage in short.train.stages] == [920, 1560, 2040, 2400, 2760]
    assert (short.train.warmup_steps, short.train.flat_steps) == (5, 920)
    with pytest.raises(JobError, match="the recipe has stages of its own"):
        Plan.of(TuneJob(job=job, space="samples", steps=3000))


def test_a_search_that_cannot_be_scheduled_is_refused(cluster, store):
    job = search("large")
    job = dataclasses.replace(job, job=dataclasses.replace(job.job, workers=64))
    with pytest.raises(JobError, match=r"no trial fits: a trial takes 66 CPUs.*has 0 GPUs"):
        tune.run(job)
    job = search("crowd", scheduler="pbt", trials=4)
    job = dataclasses.replace(job, job=dataclasses.replace(job.job, workers=2))
    with pytest.raises(JobError, match=r"all its 4 trials at the same time.*use --trials 1"):
        tune.run(job)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "0"], "trials 0 is less than 1"),
        (["--objectives", "params"], "do not name psnr"),
        (["--objectives", "psnr", "params", "--scheduler", "asha"], "leave --scheduler out"),
        (["--objectives", "psnr", "latency", "--workers", "2"], "leave --workers out"),
        (["--hours", "0"], "hours 0 is not positive"),
        (["--workers", "1", "2"], "cannot be added up"),
    ],
)
def test_what_is_no_search_is_refused(words, message, capsys):
    with pytest.raises((SystemExit, ValueError, JobError)) as caught:
        cli.parse(["tune", "demo", *words])
    shown = f"{caught.value}{' '.join(capsys.readouterr().err.split())}".replace("│ │", "")
    assert message.split()[0] in shown
