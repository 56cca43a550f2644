"""`laformer evaluate` from folders to scores: networks of every shape, and no registry."""

import dataclasses
import importlib.machinery
import json
import sys
import types

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jobs import evaluate
from jobs.config import EvaluateJob
from jobs.errors import JobError
from jobs.evaluation import results, subjects
from jobs.evaluation.contender import contender
from jobs.evaluation.perceptual import Besides
from jobs.evaluation.pictures import chosen_keys
from jobs.evaluation.pristine import pristine
from jobs.evaluation.scoring import Measure, Score, measure
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from laformer.niqe import Pristine, usual_window
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


def test_niqe_is_called_by_the_parameters_it_has(data, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("gt/9_clean.png", "data/9_rain.png"):
        lay(tmp_path / "data/RainDrop" / name, rng.integers(0, 256, (192, 192, 3), np.uint8))
    made = Pristine(np.zeros(36), np.eye(36), usual_window())
    (tmp_path / "a.npz").write_bytes(made.packed())
    besides = Besides(niqe=pristine(str(tmp_path / "a.npz")))
    model = contender("input")
    job = EvaluateJob(model="input", benchmark=("raindrop",), data=data)
    (chosen,) = subjects.subjects(job, model)
    at = next(i for i, keys in enumerate(chosen.keys) if "9_rain.png" in keys)
    measured = Measure(chosen, model.loader(chosen.benchmark), besides)
    row = measured({"keys": list(chosen.keys[at]), "sizes": list(chosen.sizes[at])})
    assert row[made.name] == row[f"input_{made.name}"] > 0
    score = Score(benchmark="raindrop", protocol="weather-y", digest="d", rows=(row,))
    assert score.measures == ("psnr_db", "ssim_uniform11", made.name)
    title = f"NIQE {made.name.removeprefix('niqe-')}"
    (line,) = [line for line in results.lines(score) if line.metric == title]
    assert not line.more_is_better
    assert not results.benchmark_as_json(score)["measures"][made.name]["more_is_better"]
    for where, message in ((data, "smaller than a block"), (f"{data}/no.npz", "does not exist")):
        with pytest.raises(JobError, match=message):
            pristine(where)


def test_lpips_is_given_what_its_package_wants(monkeypatch):
    """The package is not installed here: what stands in for it says what it was called with."""

    class Network(torch.nn.Module):
        def forward(self, restored, gt):
            assert restored.shape == gt.shape == (1, 3, 4, 5)
            assert restored.dtype == torch.float32
            return (restored - gt).abs().mean()[None, None, None, None]

    def make(net, verbose):
        assert (net, verbose) == ("alex", False)
        return Network()

    package = types.ModuleType("lpips")
    package.LPIPS, package.__spec__ = make, importlib.machinery.ModuleSpec("lpips", None)
    monkeypatch.setitem(sys.modules, "lpips", package)
    (of,) = Besides(lpips=True).load().values()
    black, white = np.zeros((4, 5, 1), np.uint8), np.full((4, 5, 1), 255, np.uint8)
    # In its unit black is -1 and white is 1.
    assert of(white, black) == 2
    assert of(white.astype(np.float64), white) == 0


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
