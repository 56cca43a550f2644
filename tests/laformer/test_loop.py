"""Training on a list: no cluster, no files."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from laformer import loop
from laformer.batches import Batch, Lanes, steps_of, to_tensor
from laformer.config import Stage
from laformer.errors import TrainingError
from laformer.loop import fit
from laformer.memory import Size
from laformer.model import LAformer
from laformer.schedule import learning_rate
from tests.networks import MODEL, batches, config, state


def test_fit_on_a_list_learns():
    train = config(steps=60, lr=5e-3)
    batch = batches(1)[0]
    losses = []
    fit(state(train), [batch] * 60, train, after_step=lambda _s, r: losses.append(r.loss.item()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_same_seed_gives_the_same_bytes():
    train = config()
    first, again = (fit(state(train), batches(4), train) for _ in range(2))
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_fit_stops_at_the_last_step():
    train = config(steps=3)
    assert fit(state(train), batches(5), train).step == 3


def test_the_loop_can_be_cut_anywhere():
    train = config()
    whole = fit(state(train), batches(4), train)
    cut = fit(state(train), batches(4)[:2], train)
    fit(cut, batches(4)[2:], train)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, cut.model.state_dict()[name]), name


def test_averaged_lends_the_average_and_gives_the_weights_back():
    train = config()
    trained = fit(state(train), batches(3), train)
    before = {n: v.clone() for n, v in trained.model.state_dict().items()}
    with loop.averaged(trained) as model:
        assert all(torch.equal(v, trained.ema[n]) for n, v in model.state_dict().items())
    assert all(torch.equal(v, before[n]) for n, v in trained.model.state_dict().items())


def test_validate_scores_the_input_when_the_network_is_the_identity():
    model = LAformer(MODEL)
    torch.nn.init.zeros_(model.head.weight)
    gt = np.full((9, 11, 3), 100, np.uint8)
    lq = np.full((9, 11, 3), 101, np.uint8)
    [result] = loop.validate(model, [{"key": "a", "lq": lq, "gt": gt}])
    assert result.psnr_db == pytest.approx(48.1308036)
    assert np.array_equal(result.restored, lq)


@pytest.mark.parametrize("num", [2, 4])
def test_the_gradient_of_parts_is_that_of_the_whole(num):
    train = config(global_batch=4, loss="charbonnier + 0.05 frequency")
    rng = torch.Generator().manual_seed(0)
    lq, gt = (torch.rand((4, 3, 16, 16), generator=rng, dtype=torch.float64) for _ in range(2))
    gradients, losses = [], []
    for accumulate in (1, num):
        each = state(train)
        each.model.double()
        options = dataclasses.replace(train, accumulate=accumulate)
        losses.append(loop.backward(each, Batch(np.arange(4), lq, gt), options))
        gradients.append([p.grad for p in each.model.parameters()])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0)
    largest = max(gradient.abs().max().item() for gradient in gradients[0])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12 * largest)


def test_steps_in_parts_end_with_the_same_bytes_each_time():
    train = config(accumulate=2)
    first, again = (fit(state(train), batches(4), train) for _ in range(2))
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_parts_are_channels_last_and_in_order():
    batch = batches(1)[0]
    parts = batch.parts(2)
    assert [part.sample_ids.tolist() for part in parts] == [[0], [1]]
    assert torch.equal(torch.cat([part.gt for part in parts]), batch.gt)
    for tensor in [batch.lq, batch.gt, *(part.lq for part in parts)]:
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(TrainingError, match=r"2 samples .* into accumulate 3 .* accumulate 1"):
        batch.parts(3)


def test_half_floats_learn_the_same_with_whole_weights():
    exact, half = config(steps=8), config(steps=8, precision="bfloat16")
    losses = []
    for train in (exact, half):
        trained = state(train)
        losses += [loop.train_step(trained, batches(1)[0], train).loss for _ in range(8)]
    assert {loss.dtype for loss in losses} == {torch.float32}
    exactly, halves = torch.stack(losses[:8]), torch.stack(losses[8:])
    assert not torch.equal(exactly, halves)
    torch.testing.assert_close(halves, exactly, rtol=0.02, atol=0)
    moments = [value for each in trained.optimizer.state.values() for value in each.values()]
    assert {t.dtype for t in [*trained.ema.values(), *moments]} == {torch.float32}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its own parts
def test_a_compiled_network_learns_the_same_under_the_same_names():
    plain, compiled = (
        fit(state(train), batches(2), train) for train in (config(), config(compile=True))
    )
    assert plain.forward is plain.model
    assert compiled.forward is not compiled.model
    expected = plain.model.state_dict()
    for name, value in compiled.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-4)
    with loop.averaged(compiled) as model:
        assert model(batches(1)[0].lq).isfinite().all()


def test_an_image_that_does_not_fit_is_validated_in_stripes():
    model = LAformer(MODEL).eval()
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (96, 64, 3), np.uint8)
    row = {"key": "a", "lq": gt, "gt": gt}
    size = Size(config=MODEL, height=96, width=64, dtype=torch.float32)
    ((whole, striped)) = (
        next(loop.validate(model, [row], memory_bytes=budget))
        for budget in (2 * size.whole_bytes(torch.device("cpu")), size.whole_bytes() // 2)
    )
    assert striped.psnr_db == pytest.approx(whole.psnr_db, abs=1e-4)


def test_another_judge_takes_the_place_of_the_plain_psnr():
    gt = np.full((9, 11, 3), 100, np.uint8)
    seen = []

    def judge(restored, gt):
        seen.append((restored.dtype, gt.dtype))
        return 7.0

    [result] = loop.validate(LAformer(MODEL), [{"key": "a", "lq": gt, "gt": gt}], judge)
    assert result.psnr_db == 7.0
    assert seen == [(np.float32, np.uint8)]


def test_learning_rate_warms_up_stays_and_falls():
    train = config(steps=100, lr=0.1, final_lr=0.001, warmup_steps=10, flat_steps=20)
    rates = [learning_rate(step, train) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9:30] == pytest.approx([0.1] * 21)
    assert all(a > b for a, b in itertools.pairwise(rates[31:]))
    assert learning_rate(100, train) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("dtype", "peak"), [(np.uint8, 255), (np.uint16, 65535), (np.float16, 1), (np.float32, 1)]
)
def test_the_dtype_tells_the_range(dtype, peak):
    pixels = np.array([[[0, peak, peak]]], dtype=dtype)
    pixels.flags.writeable = False
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, 1, 1)
    assert tensor.dtype == torch.float32
    assert tensor.flatten().tolist() == [0, 1, 1]


def test_lanes_that_arrive_in_several_blocks_are_joined():
    lanes = Lanes.of(0, 1, 3)
    ids = np.arange(18).reshape(6, 3)
    parts = [(slice(0, 4), slice(0, 2)), (slice(0, 4), slice(2, 3)), (slice(4, 6), slice(0, 3))]
    blocks = [{"sample_id": ids[part].ravel(), "lq": ids[part].ravel()[:, None]} for part in parts]
    steps = list(steps_of(blocks, lanes, first_step=0))
    for column in ("sample_id", "lq"):
        found = [np.concatenate([part[column] for part in parts]).ravel() for parts in steps]
        assert np.array_equal(found, ids)
    with pytest.raises(TrainingError, match="step 0 received 8 samples or more but not all"):
        list(steps_of(blocks[:1], lanes, first_step=0))


def test_steps_of_cuts_blocks_of_a_worker_into_steps():
    lanes = Lanes.of(1, 2, 4)  # lanes 2 and 3 of 4
    blocks = [{"sample_id": np.array([10, 11, 14, 15])}, {"sample_id": np.array([18, 19])}]
    steps = [rows["sample_id"].tolist() for (rows,) in steps_of(blocks, lanes, first_step=2)]
    assert steps == [[10, 11], [14, 15], [18, 19]]


@pytest.mark.parametrize("ids", [[10, 11, 18, 19], [11, 10], [10], [8, 9]])
def test_a_lost_or_reordered_row_stops_the_run(ids):
    with pytest.raises(TrainingError, match="the stream lost or reordered rows"):
        list(steps_of([{"sample_id": np.array(ids)}], Lanes.of(1, 2, 4), first_step=2))


def test_lanes_that_do_not_divide_are_refused():
    with pytest.raises(TrainingError, match="global batch 4 does not divide among 3 workers"):
        Lanes.of(0, 3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_px": 130}, "patch_px 130 is not a multiple of 8; use 128"),
        ({"steps": 0}, "steps 0 is less than 1"),
        ({"lr": 3.0}, r"lr 3.0 is outside \(0, 1\)"),
        ({"stages": ((2, 20, 2),)}, "patch_px 20 is not a multiple of 8; use 16"),
        ({"stages": ((2, 16, 0),)}, "global_batch 0 is less than 1; use at least 1"),
        ({"stages": ((3, 16, 2), (2, 24, 2))}, "begin at steps 3 and 2, one after the other"),
        ({"stages": ((0, 16, 2),)}, "begin at steps 0 and 0, one after the other"),
        ({"stages": ((4, 16, 2),)}, "begins at step 4, but the run has 4 steps; use more"),
        ({"max_skipped": -1}, "max_skipped -1 is negative; use at least 0"),
        ({"accumulate": 0}, "accumulate 0 is less than 1"),
        ({"global_batch": 6, "accumulate": 4}, "6 does not divide into 4 parts; use accumulate=2"),
        ({"loss": "l2"}, "'l2' is none of charbonnier, l1, frequency; use for example"),
        ({"steps": 10, "flat_steps": 20}, "exceed steps 10; use flat_steps=3 and warmup_steps=1"),
    ],
)
def test_wrong_options_name_value_rule_and_fix(options, message):
    with pytest.raises(ValueError, match=message):
        config(**(options | {"stages": made(options)}))


def made(options):
    """Return the stages of options: a wrong one raises here, where the test expects it."""
    names = ("first_step", "patch_px", "global_batch")
    return tuple(Stage(**dict(zip(names, each, strict=True))) for each in options.get("stages", ()))
