import json

import numpy as np
import pytest
import torch

from laformer import checkpoint
from laformer.errors import CheckpointError, DiskFullError, ModelError
from laformer.loop import State, fit
from laformer.model import LAformer
from laformer.restore import Restorer
from tests.networks import MODEL, batches, config, state


@pytest.fixture
def trained():
    train = config(steps=8)
    return fit(state(train), batches(3), train)


def test_a_resumed_run_ends_with_the_same_bytes(trained, tmp_path):
    train = config(steps=8)
    checkpoint.save(tmp_path / "c", trained, {"run_id": "7"})
    resumed = state(train, seed=9)
    facts = checkpoint.load_state(tmp_path / "c", resumed)
    assert facts == {"run_id": "7", "step": 3, "skips": {"total": 0, "in_row": 0}}
    for each in (trained, resumed):
        fit(each, batches(5, seed=1), train)
    assert trained.step == resumed.step == 8
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert torch.equal(trained.ema[name], resumed.ema[name]), name


def test_the_released_model_is_the_average(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    model = checkpoint.load_model(tmp_path / "c")
    assert model.config == MODEL
    assert not model.training
    assert all(torch.equal(v, trained.ema[n]) for n, v in model.state_dict().items())


def test_a_release_restores_but_does_not_resume(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    checkpoint.release(tmp_path / "c", tmp_path / "r")
    checkpoint.load_model(tmp_path / "r")
    with pytest.raises(CheckpointError, match="released model, not a run to resume"):
        checkpoint.load_state(tmp_path / "r", state(config()))


def test_a_full_disk_is_named_and_leaves_what_was_there(trained, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c", trained, {"step_of": "before"})
    wrote = checkpoint._write

    def dies(path, data):
        if path.name == checkpoint.STATE:
            raise OSError(28, "No space left on device")
        wrote(path, data)

    monkeypatch.setattr(checkpoint, "_write", dies)
    with pytest.raises(
        DiskFullError, match=rf"{tmp_path}/c has no room: .* is \d+ KiB and \d+ KiB"
    ):
        checkpoint.save(tmp_path / "c", trained, {"step_of": "after"})
    assert checkpoint.read_facts(tmp_path / "c")["step_of"] == "before"
    checkpoint.verify(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("name", [checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.STATE])
def test_damage_is_found_and_named(trained, tmp_path, name):
    checkpoint.save(tmp_path / "c", trained, {})
    data = bytearray((tmp_path / "c" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "c" / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        checkpoint.load_model(tmp_path / "c")


def test_missing_parts_are_named(trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"no checksums\.json"):
        checkpoint.load_model(tmp_path)
    checkpoint.save(tmp_path / "c", trained, {})
    (tmp_path / "c" / checkpoint.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"lacks weights\.safetensors"):
        checkpoint.load_model(tmp_path / "c")


def test_another_network_is_refused(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    other = State.create(LAformer(MODEL.__class__(dim=12, head_dim=12)), config())
    with pytest.raises(CheckpointError, match="is of another network"):
        checkpoint.load_state(tmp_path / "c", other)


def test_an_unknown_option_of_a_later_version_is_explained(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    folder = tmp_path / "c"
    options = json.loads((folder / checkpoint.CONFIG).read_text()) | {"from_the_future": 1}
    checkpoint.write_json(folder / checkpoint.CONFIG, options)
    sums = json.loads((folder / checkpoint.SUMS).read_text())
    sums.pop(checkpoint.CONFIG)
    checkpoint.write_json(folder / checkpoint.SUMS, sums)
    with pytest.raises(CheckpointError, match="does not fit this version of LAformer"):
        checkpoint.load_model(folder)


@pytest.fixture
def restorer(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    return Restorer.load(tmp_path / "c", "cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 14, 3), (9, 14, 1)])
def test_restored_images_keep_type_and_shape(restorer, dtype, shape):
    peak = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    pixels = (np.random.default_rng(0).random(shape) * peak).astype(dtype)
    before = pixels.copy()
    restored = restorer(pixels)
    assert restored.dtype == dtype
    assert restored.shape == shape
    assert np.array_equal(pixels, before)


def test_16_bits_restore_as_8_bits_do(restorer):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    wide = restorer(pixels.astype(np.uint16) * 257)
    assert np.abs(np.rint(wide / 257) - restorer(pixels)).max() <= 1


def test_a_result_that_is_no_number_is_an_error(restorer):
    with torch.no_grad():
        restorer.model.head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        restorer(np.zeros((8, 8, 3), np.uint8))


def test_the_wrong_number_of_channels_is_named(restorer):
    with pytest.raises(ModelError, match="has 2 channels but the model takes 3"):
        restorer(np.zeros((8, 8, 2), np.uint8))
