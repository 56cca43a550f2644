"""A file of weights that says its network, and is read back by itself."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch

from laformer import checkpoint, header
from laformer.errors import CheckpointError
from laformer.loop import State
from laformer.model import LAformer
from tests.networks import MODEL, config

TENSORS = {"b": torch.arange(3.0), "a": torch.ones(2, 5, dtype=torch.bfloat16)}


@pytest.fixture
def released(tmp_path):
    checkpoint.save(tmp_path / "c", State.create(LAformer(MODEL), config()), {"run": "one"})
    checkpoint.release(tmp_path / "c", tmp_path / "released")
    return tmp_path / "released"


@pytest.mark.parametrize("earlier", [None, {"format": "np", "config": "{}", "other": "x"}])
def test_a_stamped_file_has_the_same_tensors_and_says_its_network(tmp_path, earlier):
    data = header.stamped(safetensors.torch.save(TENSORS, metadata=earlier), {"dim": 8})
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"config": '{"dim": 8}', "format": "pt"}
    found = safetensors.torch.load(data)
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert header.config_of(path) == {"dim": 8}
    assert header.stamped(data, {"dim": 8}) == data
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_the_file_of_weights_is_a_network_without_its_folder(released, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((released / checkpoint.MODEL).read_bytes())
    lq = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        whole, bare = checkpoint.load_model(released), checkpoint.load_model(alone)
        assert bare.config == whole.config == MODEL
        assert torch.equal(bare(lq), whole(lq))
    checkpoint.release(alone, tmp_path / "again")
    sums = [json.loads((f / checkpoint.SUMS).read_text()) for f in (released, tmp_path / "again")]
    assert sums[0][checkpoint.MODEL] == sums[1][checkpoint.MODEL]
    assert checkpoint.read_facts(released)["run"] == "one"
    assert checkpoint.read_facts(tmp_path / "again") == {}


def test_the_folder_is_what_the_hub_expects(released):
    assert {path.name for path in released.iterdir()} == {
        "config.json",
        "model.safetensors",
        "state.json",
        "checksums.json",
    }
    options = json.loads((released / "config.json").read_text())
    assert options == json.loads(json.dumps(dataclasses.asdict(MODEL)))
    assert header.config_of(released / "model.safetensors") == options


def test_a_release_of_an_earlier_version_is_read_and_released_anew(released, tmp_path):
    path = released / checkpoint.MODEL
    old = released / checkpoint.WEIGHTS
    old.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path)))
    path.unlink()
    names = (checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.FACTS)
    checkpoint.write_json(
        released / checkpoint.SUMS, {name: checkpoint._sha256(released / name) for name in names}
    )
    assert checkpoint.load_model(released).config == MODEL
    checkpoint.release(released, tmp_path / "again")
    assert header.config_of(tmp_path / "again" / checkpoint.MODEL)["dim"] == MODEL.dim
    with pytest.raises(CheckpointError, match="does not say which network it is for"):
        checkpoint.load_model(old)


def test_what_is_no_file_of_weights_is_explained(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match=r"is no safetensors file: .*; name another"):
        checkpoint.load_model(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        header.config_of(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("text", ['{"dim": 8', "[1, 2]", "null", ""])
def test_a_damaged_description_of_the_network_is_explained(tmp_path, text):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {header.CONFIG: text})
    with pytest.raises(CheckpointError, match="fetch the file again"):
        header.config_of(path)
