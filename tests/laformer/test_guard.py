"""Steps whose gradient is no number."""

import dataclasses
import math

import pytest
import torch

from laformer import checkpoint, loop
from laformer.errors import TrainingError
from laformer.guard import Skips
from laformer.loop import fit
from tests.networks import batches, config, state


def spoiled(batch, value=math.nan):
    """Return the batch with one pixel of its gt that is no number."""
    gt = batch.gt.clone()
    gt[1, 0, 3, 4] = value
    return dataclasses.replace(batch, gt=gt)


def everything(trained):
    """Return a copy of all tensors that training changes."""
    tensors = dict(trained.model.state_dict())
    tensors |= {f"ema.{name}": value for name, value in trained.ema.items()}
    for name, parameter in trained.model.named_parameters():
        moments = trained.optimizer.state.get(parameter, {})
        tensors |= {f"{name}.{key}": value for key, value in moments.items()}
    return {name: value.clone() for name, value in tensors.items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("loss", ["charbonnier", "l1", "frequency", "l1 + 0.1 frequency"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_skipped_step_changes_nothing_but_the_counts(loss, value, accumulate, caplog):
    train = config(loss=loss, accumulate=accumulate)
    trained = fit(state(train), batches(2), train)
    before = everything(trained)
    result = loop.train_step(trained, spoiled(batches(3)[2], value), train)
    assert result.skipped
    assert same(everything(trained), before)
    assert trained.step == 3
    assert trained.skips == Skips(total=1, in_row=1)
    assert "skipped step 2: the gradient's norm is nan" in caplog.text
    assert "samples 4, 5 is" in caplog.text


def test_a_good_step_after_a_bad_one_is_the_step_it_would_have_been():
    train = config()
    skipping, waiting = (fit(state(train), batches(2), train) for _ in range(2))
    loop.train_step(skipping, spoiled(batches(3)[2]), train)
    waiting.step += 1
    for each in (skipping, waiting):
        assert not loop.train_step(each, batches(4)[3], train).skipped
    assert same(everything(skipping), everything(waiting))
    assert skipping.skips == Skips(total=1, in_row=0)


def test_too_many_in_a_row_stop_the_run():
    train = config(steps=9, max_skipped=2)
    good, bad = batches(1)[0], spoiled(batches(4)[3])
    trained = state(train)
    with pytest.raises(TrainingError) as raised:
        fit(trained, [bad, bad, good, bad, bad, bad, good], train)
    assert trained.skips == Skips(total=5, in_row=3)
    for words in (
        "step 5:",
        "samples 6, 7 is nan",
        "3 in a row",
        "max_skipped 2",
        "5 in all",
    ):
        assert words in str(raised.value)


def test_none_allowed_stops_at_once():
    train = config(max_skipped=0)
    with pytest.raises(TrainingError, match=r"step 0: .* that is 1 in a row"):
        fit(state(train), [spoiled(batches(1)[0])], train)


def test_an_endless_gradient_of_a_finite_loss_is_skipped_too():
    train = config()
    trained = fit(state(train), batches(1), train)
    before = everything(trained)
    parameter = trained.model.head.weight
    parameter.register_hook(lambda gradient: gradient * math.inf)
    result = loop.train_step(trained, batches(2)[1], train)
    assert result.skipped
    assert result.loss.isfinite()
    assert same(everything(trained), before)


def test_a_resumed_run_counts_on(tmp_path):
    train = config(steps=8, accumulate=2)
    stream = batches(8)
    stream[2], stream[3] = spoiled(stream[2]), spoiled(stream[3])
    whole = fit(state(train), stream, train)
    cut = fit(state(train), stream[:3], train)
    checkpoint.save(tmp_path / "c", cut, {})
    resumed = state(train, seed=9)
    checkpoint.load_state(tmp_path / "c", resumed)
    assert resumed.skips == Skips(total=1, in_row=1)
    fit(resumed, stream[3:], train)
    assert same(everything(resumed), everything(whole))
    assert resumed.skips == whole.skips == Skips(total=2, in_row=0)
