import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laformer import losses, terms
from laformer.losses import CHARBONNIER_EPS, LOSSES, weighted
from laformer.terms import Term

ZERO = {"charbonnier": CHARBONNIER_EPS, "l1": 0.0, "frequency": 0.0}


def pair(seed=0, shape=(2, 3, 8, 12), dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(shape, generator=rng, dtype=dtype) for _ in range(2))


def test_every_name_has_a_loss():
    assert set(LOSSES) == set(ZERO)
    assert doctest.testmod(terms).failed == 0


@pytest.mark.parametrize("name", LOSSES)
def test_equal_images_cost_nothing_and_push_nowhere(name):
    restored, _ = pair()
    restored.requires_grad_()
    loss = LOSSES[name](restored, restored.detach().clone())
    assert loss.item() == pytest.approx(ZERO[name], abs=1e-15)
    loss.backward()
    assert torch.equal(restored.grad, torch.zeros_like(restored))


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 2**32))
def test_losses_are_symmetric_and_average_over_samples(name, seed):
    restored, gt = pair(seed)
    loss = LOSSES[name](restored, gt)
    assert loss.item() == pytest.approx(LOSSES[name](gt, restored).item())
    each = [LOSSES[name](restored[i : i + 1], gt[i : i + 1]) for i in range(2)]
    assert loss.item() == pytest.approx(torch.stack(each).mean().item())
    assert loss.item() > ZERO[name]


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_differences(name):
    restored, gt = pair(shape=(1, 1, 4, 6))
    restored.requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], (restored, gt))


def test_the_frequency_loss_is_that_of_a_transform_written_out():
    restored, gt = pair(shape=(1, 1, 4, 6))
    error = (restored - gt)[0, 0].numpy()
    rows, columns = np.mgrid[:4, :6]
    parts = []
    for u in range(4):
        for v in range(4):  # the rest of the 6 are their conjugates
            wave = np.exp(-2j * np.pi * (u * rows / 4 + v * columns / 6))
            coefficient = (error * wave).sum()
            parts += [abs(coefficient.real), abs(coefficient.imag)]
    assert losses.frequency(restored, gt).item() == pytest.approx(np.mean(parts), rel=1e-12)


def test_white_errors_weigh_as_much_in_frequencies_as_the_docstring_says():
    rng = torch.Generator().manual_seed(0)
    error = torch.randn((4, 3, 128, 128), generator=rng)
    ratio = losses.frequency(error, error * 0) / losses.l1(error, error * 0)
    assert ratio.item() == pytest.approx(math.sqrt(128 * 128 / 2), rel=0.01)


def test_frequencies_are_float32_under_autocast():
    restored, gt = (each.bfloat16() for each in pair(dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.frequency(restored, gt)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, losses.frequency(restored.float(), gt.float()))


def test_a_sum_weighs_its_terms():
    restored, gt = pair()
    expected = losses.charbonnier(restored, gt) + 0.05 * losses.frequency(restored, gt)
    assert torch.equal(weighted("charbonnier + 0.05 frequency")(restored, gt), expected)
    assert torch.equal(weighted("l1")(restored, gt), losses.l1(restored, gt))


def test_spaces_do_not_matter_between_terms():
    assert terms.parse(" 2 l1+1e-1  frequency ") == (Term(2, "l1"), Term(0.1, "frequency"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is none of charbonnier, l1, frequency; use for example"),
        ("l1 +", r"loss 'l1 \+': '' is none of"),
        ("l1 + 0.1 fft", "'fft' is none of charbonnier, l1, frequency"),
        ("0 l1", "'0' before l1 is no number above 0"),
        ("-1 l1", "'-1' before l1 is no number above 0"),
        ("nan l1", "'nan' before l1 is no number above 0"),
        ("inf l1", "'inf' before l1 is no number above 0"),
        ("2 * l1", r"'2 \*' before l1 is no number above 0"),
    ],
)
def test_what_is_no_sum_of_losses_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        terms.parse(text)
