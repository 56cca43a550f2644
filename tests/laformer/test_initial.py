"""A run that starts from released weights, and the message when they do not fit."""

import dataclasses

import pytest
import torch

from laformer import checkpoint, initial
from laformer.errors import CheckpointError
from laformer.loop import State, fit
from laformer.model import LAformer
from tests.networks import MODEL, batches, config, state


@pytest.fixture
def trained():
    train = config()
    return fit(state(train), batches(3), train)


@pytest.fixture
def files(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    checkpoint.release(tmp_path / "c", tmp_path / "released")
    return {path.name: path.read_bytes() for path in (tmp_path / "released").iterdir()}


def other(**options):
    return dataclasses.replace(MODEL, **options)


def test_weights_and_average_start_from_what_was_released(trained, files):
    fresh = state(config(), seed=5)
    assert initial.check(files, MODEL, "m/1").fits
    initial.start_from(fresh, files)
    for name, value in fresh.model.state_dict().items():
        assert torch.equal(value, trained.ema[name]), name
        assert torch.equal(fresh.ema[name], trained.ema[name]), name
    assert fresh.step == 0
    assert not fresh.optimizer.state


def test_training_moves_the_weights_and_not_the_average_with_them(files):
    fresh = state(config())
    initial.start_from(fresh, files)
    name, value = next(iter(fresh.model.state_dict().items()))
    assert value.data_ptr() != fresh.ema[name].data_ptr()


def test_a_smaller_network_is_told_by_its_options(files):
    with pytest.raises(CheckpointError) as error:
        initial.check(files, other(dim=16), "m/1")
    text = str(error.value)
    assert text.startswith("m/1 does not fit the network to be trained: of the weights ")
    assert "embed.weight (8, 3, 3, 3), here (16, 3, 3, 3)" in text
    assert "of another shape" in text
    assert "The networks differ in dim 8, here 16; use --model.dim 8" in text


def test_missing_and_extra_weights_are_counted_and_named(files):
    deeper = difference(files, blocks=(2, 1, 1, 1))
    assert len(deeper.missing) > initial.SHOWN
    assert f" and {len(deeper.missing) - initial.SHOWN} more)" in str(deeper)
    shallower = difference(files, refinement=0)
    assert shallower.extra
    assert "missing" not in str(shallower)
    with pytest.raises(CheckpointError, match=r"use --model.blocks 1 1 1 1, or --init-partial"):
        initial.check(files, other(blocks=(2, 1, 1, 1)), "m/1")


def difference(files, **options):
    return initial.Difference.of(files, other(**options))


def test_a_network_for_other_images_has_no_option_that_helps(files):
    with pytest.raises(CheckpointError, match="same kind of images: scale must be equal, or"):
        initial.check(files, other(scale=2), "m/1")


def test_what_fits_can_be_taken_alone(trained, files):
    larger = other(scale=2)
    found = initial.check(files, larger, "m/1", partial=True)
    assert found.num_fitting
    fresh = State.create(LAformer(larger), config())
    before = {name: value.clone() for name, value in fresh.model.state_dict().items()}
    initial.start_from(fresh, files)
    for name, value in fresh.model.state_dict().items():
        changed = name in found.missing or name in found.reshaped
        assert torch.equal(value, before[name] if changed else trained.ema[name]), name
        assert torch.equal(value, fresh.ema[name]), name


def test_another_function_of_the_same_weights_is_known(files):
    found = initial.check(files, other(phi="relu"), "m/1")
    assert found.options == {"phi": ("elu", "relu")}
