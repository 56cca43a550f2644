"""Versions of models: those of earlier versions of the project, and weights that are a file."""

import json

import pytest
import safetensors.torch

from jobs import restore
from jobs.tracking import Tracker
from jobs.versions.registry import Registry
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from laformer.restore import Restorer
from tests.networks import MODEL, config


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "store"))
    return Registry()


@pytest.fixture
def released(tmp_path):
    checkpoint.save(tmp_path / "c", State.create(LAformer(MODEL), config()), {})
    checkpoint.release(tmp_path / "c", tmp_path / "released")
    return tmp_path / "released"


def as_before(released, folder):
    """Write a released checkpoint as earlier versions of the project registered it."""
    folder.mkdir()
    for name in (checkpoint.CONFIG, checkpoint.FACTS):
        (folder / name).write_bytes((released / name).read_bytes())
    tensors = safetensors.torch.load_file(released / checkpoint.MODEL)
    (folder / checkpoint.WEIGHTS).write_bytes(safetensors.torch.save(tensors))
    names = (checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.FACTS)
    sums = {name: checkpoint._sha256(folder / name) for name in names}
    checkpoint.write_json(folder / checkpoint.SUMS, sums)
    return folder


def test_a_version_of_before_restores_and_is_released_in_the_new_layout(
    registry, released, tmp_path
):
    run_id = Tracker().continue_run("e", "store/train/old", {})
    client = registry.client
    client.log_artifacts(run_id, str(as_before(released, tmp_path / "old")), "model/1")
    client.create_registered_model("m")
    source = f"{client.get_run(run_id).info.artifact_uri}/model/1"
    client.create_model_version("m", source, run_id=run_id)
    name, files = restore.load("m/1")
    assert name == "m/1"
    assert set(files) == {path.name for path in released.iterdir()}
    assert files[checkpoint.MODEL] == (released / checkpoint.MODEL).read_bytes()


def test_a_file_of_weights_restores_without_its_folder(released, tmp_path):
    alone = (released / checkpoint.MODEL).rename(tmp_path / "alone.safetensors")
    name, files = restore.load(str(alone))
    assert name.startswith(f"{alone}@")
    (tmp_path / "again").mkdir()
    for file, data in files.items():
        (tmp_path / "again" / file).write_bytes(data)
    assert Restorer.load(tmp_path / "again").model.config == MODEL
    assert json.loads(files[checkpoint.FACTS]) == {}
