"""`laformer evaluate` from folders to scores: networks of every shape, and no registry."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from jobs.config import EvaluateJob
from jobs.errors import JobError
from jobs.evaluation import subjects
from jobs.evaluation.contender import contender
from jobs.evaluation.pictures import chosen_keys
from jobs.evaluation.scoring import Measure, Score, measure
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from laformer.restore import Restorer
from pipelines import images
from pipelines.images import Photo
from tests.networks import MODEL, config
from tests.pipelines.test_training import photo


def lay(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(Photo(pixels=np.ascontiguousarray(pixels)), ".png"))


def network(folder, task="", **facts):
    """Write a checkpoint with weights that change an image a little; return its folder."""
    made = LAformer(dataclasses.replace(MODEL, **facts))
    checkpoint.save(folder, State.create(made, config()), {"task": task} if task else {})
    return str(folder)


@pytest.fixture
def data(tmp_path):
    for seed in (1, 2, 3):
        lay(tmp_path / f"data/set5/hr/{seed}.png", photo(seed, size=(67, 74)))
        lay(tmp_path / f"data/classic5/{seed}.png", photo(seed, size=(40, 52))[..., :1])
        lay(tmp_path / f"data/set12/{seed}.png", photo(seed, size=(40, 52))[..., :1])
        lay(tmp_path / f"data/RainDrop/gt/{seed}_clean.png", photo(seed, size=(40, 52)))
        lay(tmp_path / f"data/RainDrop/data/{seed}_rain.png", photo(seed, size=(40, 52)) // 2)
    return str(tmp_path / "data")


def test_a_checkpoint_is_measured_without_a_registry_and_shown(cluster, data, tmp_path, capsys):
    model = network(tmp_path / "model", task="sr-x4", scale=4)
    out = tmp_path / "out"
    job = EvaluateJob(model=model, benchmark=("all",), data=data, out=str(out))
    (score,) = evaluate.run(job)
    printed = capsys.readouterr().out
    assert "not in" in printed
    assert "set14-x4" in printed
    assert (score.benchmark, len(score.rows), score.measures) == ("set5-x4", 3, ("psnr_db", "ssim"))
    found = json.loads((out / "scores.json").read_text())
    (line,) = found["benchmarks"]
    low, high = line["measures"]["psnr_db"]["interval"]
    assert low <= line["measures"]["psnr_db"]["restored"] == score.psnr_db <= high
    assert line["protocol"] == "sr-y-x4"
    assert line["published_psnr_db"] == {"SwinIR": 32.92, "HAT": 33.04}
    rows = pq.read_table(out / "set5-x4.parquet").to_pylist()
    assert rows == list(score.rows)
    page = (out / "scores.html").read_text()
    assert page.count('<figure class="photo">') == 3
    assert "smallest gain: " in page
    assert "published: SwinIR 32.92" in page


def test_scores_are_the_same_for_one_worker_and_for_two(cluster, data, tmp_path):
    # A network of three channels, on grey images.
    job = EvaluateJob(model=network(tmp_path / "model"), benchmark=("classic5-q10",), data=data)
    (one,) = evaluate.run(job)
    model = contender(job.model)
    (chosen,) = subjects.subjects(job, model)
    two = measure(chosen, model, dataclasses.replace(cluster, num_cpus=4, num_gpus=0))
    assert one == two
    assert len(one.rows) == 3
    assert set(one.measures) == {"psnr_db", "ssim", "psnr_b_db"}


def test_grey_noise_is_taken_from_one_channel(data, tmp_path):
    folder = network(tmp_path / "model", in_channels=1, out_channels=1)
    job = EvaluateJob(model=folder, benchmark=("set12-sigma25",), data=data)
    (chosen,) = subjects.subjects(job, contender(folder))
    measured = Measure(chosen, lambda: Restorer.load(tmp_path / "model", "cpu"))
    row = measured({"keys": list(chosen.keys[0]), "sizes": list(chosen.sizes[0])})
    assert row["input_psnr_db"] == pytest.approx(20.3, abs=0.6)
    assert np.isfinite(row["psnr_db"])


def test_captured_pairs_are_named_by_their_lq_and_need_no_network(data):
    job = EvaluateJob(model="input", benchmark=("raindrop",), data=data)
    model = contender("input")
    (chosen,) = subjects.subjects(job, model)
    measured = Measure(chosen, model.loader(chosen.benchmark))
    keys, sizes = chosen.keys[1], chosen.sizes[1]
    row = measured({"keys": list(keys), "sizes": list(sizes)})
    assert row["key"] == "2_rain.png"
    assert row["psnr_db"] == row["input_psnr_db"] < 20
    assert row["ssim_uniform11"] == row["input_ssim_uniform11"] < 1


def test_what_cannot_be_measured_is_explained(data, tmp_path):
    model = network(tmp_path / "model")
    for job, message in (
        (EvaluateJob(model=model), "does not say its task"),
        (EvaluateJob(model="input", benchmark=("all",)), "name it with --data"),
        (EvaluateJob(model="input", benchmark=("csd",)), r"above CSD/Gt \+ CSD/Snow with --data"),
        (EvaluateJob(model="input", benchmark=("csx",), data=data), "unknown benchmark 'csx'"),
        (EvaluateJob(model="input", benchmark=("set5-x2",), lpips=True), "pip install lpips"),
        (
            EvaluateJob(model="input", benchmark=("all",), data=str(tmp_path / "model")),
            "no benchmark of input is in",
        ),
    ):
        with pytest.raises(JobError, match=message):
            evaluate.run(job)
    with pytest.raises(ValueError, match="no model to measure; name one with --model"):
        EvaluateJob()


def test_all_benchmarks_are_listed_with_what_is_there(data, capsys):
    assert evaluate.run(EvaluateJob(list=True, data=data)) == []
    printed = capsys.readouterr().out
    for part in ("set5-x4", "DPDD/test_l", "realblur-aligned", "dpdd-single-outdoor"):
        assert part in printed


def test_the_pictures_are_of_the_smallest_and_the_largest_gains():
    rows = [{"key": f"{n}.png", "input_psnr_db": 20.0, "psnr_db": 20.0 + n % 7} for n in range(14)]
    score = Score(benchmark="b", protocol="p", digest="d", rows=tuple(rows))
    found = chosen_keys(score, 6)
    assert found == {"6.png": "largest gain", "0.png": "smallest gain"}
    assert len(chosen_keys(score, 1)) == 12
    lone = dataclasses.replace(score, rows=score.rows[:1])
    assert chosen_keys(lone, 1) == {"0.png": "smallest gain"}
    assert score.intervals["psnr_db"].low < score.psnr_db < score.intervals["psnr_db"].high
    exact = {"key": "a", "psnr_db": np.inf, "input_psnr_db": 1.0}
    equal = dataclasses.replace(score, rows=(exact,))
    assert equal.intervals["psnr_db"] is None
