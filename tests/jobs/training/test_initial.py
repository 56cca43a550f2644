"""What --init means: a version or a folder, once and for all of a run's restarts."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch

from jobs import place, recipes
from jobs.errors import JobError, MissingModelError
from jobs.tracking import Tracker
from jobs.training import initial, runs
from jobs.versions.registry import CANDIDATE, Registry
from laformer import checkpoint
from laformer.errors import CheckpointError
from laformer.initial import start_from
from laformer.loop import State
from laformer.model import LAformer
from pipelines import storage
from tests.networks import MODEL, config

NAME = "laformer-t"


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "store"))
    return Tracker()


def release(folder):
    """Write a released checkpoint with random weights; return the digest of these."""
    checkpoint.save(folder / "c", State.create(LAformer(MODEL), config()), {})
    checkpoint.release(folder / "c", folder / "released")
    return json.loads((folder / "released" / checkpoint.SUMS).read_text())[checkpoint.MODEL]


def register(tracker, folder):
    sha256 = release(folder)
    run_id = tracker.continue_run("e", f"store/train/{folder.name}", {})
    registry = Registry(tracker.uri)
    version = registry.register(NAME, folder / "released", run_id, {"sha256": sha256})
    registry.nominate(version)
    return version


def job(init, **options):
    demo = recipes.recipe("demo")
    return dataclasses.replace(demo, model=MODEL, name="fine", init=init, **options)


def started(wanted):
    """Do what a first start leaves in the folder of a run; return where the weights are from."""
    found = initial.origin(wanted, "fine", begun=False)
    pinned = dataclasses.replace(wanted, init=found.model)
    runs.same_run("fine", recipes.to_json(pinned), {}, found)
    return found


@pytest.mark.parametrize("given", [f"{NAME}@{CANDIDATE}", f"models:/{NAME}@{CANDIDATE}"])
def test_an_alias_means_what_it_meant_at_the_first_start(tracker, tmp_path, given, capsys):
    first = register(tracker, tmp_path / "first")
    assert initial.origin(job(None), "fine", begun=False) is None
    found = started(job(given))
    assert found.model == str(first) == f"{NAME}/1"
    assert found.sha256 == first.tags["sha256"]
    assert f"the first weights are those of {NAME}/1" in capsys.readouterr().out
    register(tracker, tmp_path / "second")
    again = started(job(given))
    assert (again.model, again.sha256, again.files) == (found.model, found.sha256, found.files)
    kept = recipes.from_json(storage.get(f"{place.run_folder('fine')}/job.json").decode())
    assert kept.init == f"{NAME}/1"
    assert initial.origin(kept, "fine", begun=False).model == found.model
    with pytest.raises(JobError, match=f"init was {NAME}/1, is {NAME}/2"):
        started(job(f"{NAME}/2"))


def test_a_run_that_has_begun_needs_no_registry(tracker, tmp_path, monkeypatch):
    register(tracker, tmp_path / "first")
    found = started(job(f"{NAME}/1"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    again = initial.origin(job(f"{NAME}/1"), "fine", begun=True)
    assert again == dataclasses.replace(found, files=None)


def test_a_checkpoint_folder_is_named_from_the_root_on(tracker, tmp_path, monkeypatch):
    sha256 = release(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    found = started(job("c"))
    assert (found.model, found.sha256) == (str(tmp_path / "mine" / "c"), sha256)
    monkeypatch.chdir(tmp_path)
    assert initial.origin(job("mine/c"), "fine", begun=True).model == found.model
    release(tmp_path / "mine")
    with pytest.raises(JobError, match=r"sha256 was .*, is "):
        started(job("mine/c"))


def test_a_file_of_weights_is_enough_to_start_from(tracker, tmp_path, monkeypatch):
    sha256 = release(tmp_path / "mine")
    alone = (tmp_path / "mine" / "released" / checkpoint.MODEL).rename(tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    found = started(job("w.safetensors"))
    assert (found.model, found.sha256) == (str(alone), sha256)
    assert initial.origin(job(str(alone)), "fine", begun=True).facts == found.facts
    state = State.create(LAformer(MODEL), config())
    start_from(state, found.files)
    expected = safetensors.torch.load_file(alone)
    assert all(torch.equal(value, expected[name]) for name, value in state.ema.items())
    with pytest.raises(CheckpointError, match=r"there is no file .*gone.safetensors; name the we"):
        started(job("gone.safetensors"))
    trained = tmp_path / "mine" / "c" / checkpoint.WEIGHTS
    with pytest.raises(CheckpointError, match=rf"{trained} does not say which network .*folder"):
        initial.origin(job(str(trained)), "another", begun=False)
    alone.write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match=f"{alone} is no safetensors file"):
        initial.origin(job("w.safetensors"), "another", begun=False)


@pytest.mark.s3
def test_a_checkpoint_folder_in_a_bucket_is_as_good_as_one_on_a_disk(tracker, tmp_path, s3):
    sha256 = release(tmp_path / "mine")
    uri = f"{s3}/{tmp_path.name}/train/mine/step_00000004"
    for file in (tmp_path / "mine" / "c").iterdir():
        storage.put(f"{uri}/{file.name}", file.read_bytes())
    found = started(job(f"{uri}/"))
    assert (found.model, found.sha256) == (uri, sha256)
    assert checkpoint.MODEL in found.files
    again = initial.origin(job(f"{uri}/"), "fine", begun=True)
    assert again == dataclasses.replace(found, files=None)
    storage.put(f"{uri}/{checkpoint.WEIGHTS}", b"cut short")
    with pytest.raises(CheckpointError, match=f"{uri}/{checkpoint.WEIGHTS} is damaged"):
        initial.origin(job(uri), "another", begun=False)
    weights = f"{s3}/{tmp_path.name}/w.safetensors"
    storage.put(weights, (tmp_path / "mine" / "released" / checkpoint.MODEL).read_bytes())
    lone = initial.origin(job(weights), "lone", begun=False)
    assert (lone.model, lone.sha256) == (weights, sha256)
    with pytest.raises(CheckpointError, match=rf"{s3}/none.safetensors.*name the weights or a"):
        initial.origin(job(f"{s3}/none.safetensors"), "another", begun=False)
    with pytest.raises(CheckpointError, match=f"{s3}/none is not a complete checkpoint"):
        initial.origin(job(f"{s3}/none"), "another", begun=False)


def test_what_cannot_be_started_from_is_explained(tracker, tmp_path):
    register(tracker, tmp_path / "first")
    with pytest.raises(MissingModelError, match=rf"no model 'ghost@x'.*registered are: {NAME}"):
        started(job("ghost@x"))
    wide = dataclasses.replace(job(f"{NAME}/1"), model=dataclasses.replace(MODEL, dim=16))
    with pytest.raises(CheckpointError, match=rf"{NAME}/1 does not fit .* use --model.dim 8"):
        started(wide)
    with pytest.raises(ValueError, match="init_partial takes part of a model; name it with --init"):
        job(None, init_partial=True)


def test_what_a_run_takes_over_only_in_part_is_said(tracker, tmp_path, capsys):
    register(tracker, tmp_path / "first")
    deep = dataclasses.replace(MODEL, blocks=(2, 1, 1, 1))
    started(dataclasses.replace(job(f"{NAME}/1", init_partial=True), model=deep))
    assert "of its weights fit; of the others" in capsys.readouterr().out
    other = dataclasses.replace(job(f"{NAME}/1"), model=dataclasses.replace(MODEL, phi="relu"))
    initial.origin(other, "another", begun=False)
    assert "it is another network: phi elu, here relu" in capsys.readouterr().out
