"""Degradations made of degradations."""

import pickle
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.degradations import GaussianNoise, Jpeg
from pipelines.degradations.chain import Chain, OneOf, Sometimes
from pipelines.degradations.poisson_noise import PoissonNoise
from pipelines.pixels import like, to_float

photos = arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(*[st.integers(1, 12)] * 2, st.sampled_from([1, 3])),
)
floats = st.builds(
    lambda seed, shape: np.random.default_rng(seed).random(shape, dtype=np.float32),
    st.integers(0, 100),
    st.tuples(*[st.integers(1, 12)] * 2, st.sampled_from([1, 3])),
)


@dataclass(frozen=True)
class Times:
    """Brighter or darker, and rounded to the dtype of what comes."""

    factor: float

    def __call__(self, gt, _):
        return like(to_float(gt) * np.float32(self.factor), gt)


@dataclass(frozen=True)
class Every:
    """Every `scale`-th pixel, with a margin."""

    scale: int
    margin_px: int = 0

    def __call__(self, gt, _):
        return gt[:: self.scale, :: self.scale].copy()


@dataclass(frozen=True)
class SizeOfGt:
    """An image of the size of gt, whose value says which step it is."""

    value: float = 0.5

    def __call__(self, gt, rng):
        return self.within(gt.shape[:2])(gt, rng)

    def within(self, frame):
        return lambda gt, _: np.full((*frame, gt.shape[2]), self.value, gt.dtype)


NOISE = GaussianNoise(sigma=(1, 30), grey=0.4, clip=True)
DEEP = Chain(
    Sometimes(0.8, NOISE),
    OneOf(Chain(Jpeg(quality=(30, 95)), Times(0.5)), NOISE, weights=(3, 1)),
    PoissonNoise(strength=(0.05, 3), grey=0.4),
)
NAMES = (Chain, OneOf, Sometimes, GaussianNoise, PoissonNoise, Jpeg, Times)


@settings(max_examples=50, deadline=None)
@given(photos | floats, st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_bytes_and_gt_stays_as_it_is(gt, seed):
    before = gt.copy()
    lq = DEEP(gt, np.random.default_rng(seed))
    assert lq.dtype == gt.dtype
    assert lq.shape == gt.shape
    assert lq.tobytes() == DEEP(gt, np.random.default_rng(seed)).tobytes()
    assert np.array_equal(gt, before)
    assert not np.shares_memory(gt, lq)


@settings(max_examples=50, deadline=None)
@given(photos | floats, st.integers(0, 2**32))
def test_a_chain_is_its_steps_by_hand_on_floats(gt, seed):
    rng = np.random.default_rng(seed)
    steps = (NOISE, Jpeg(quality=(30, 95)), Times(0.5))
    values = to_float(gt)
    for step in steps:
        values = step(values, rng)
    assert np.array_equal(Chain(*steps)(gt, np.random.default_rng(seed)), like(values, gt))


@given(photos)
def test_only_the_end_is_rounded_and_clipped(gt):
    rng = np.random.default_rng(0)
    assert np.array_equal(Chain(Times(0.001), Times(1000))(gt, rng), gt)
    assert np.array_equal(Chain(Times(10), Chain(Times(0.1)))(gt, rng), gt)


@given(photos | floats)
def test_no_steps_are_the_identity(gt):
    lq = Chain()(gt, np.random.default_rng(0))
    assert np.array_equal(lq, gt)
    assert lq.dtype == gt.dtype


@given(photos | floats, st.integers(0, 100))
def test_never_is_the_identity_and_always_is_the_step(gt, seed):
    never = Sometimes(0, NOISE)(gt, np.random.default_rng(seed))
    assert np.array_equal(never, gt)
    assert not np.shares_memory(gt, never)
    rng = np.random.default_rng(seed)
    rng.random()
    always = Sometimes(1, NOISE)(gt, np.random.default_rng(seed))
    assert np.array_equal(always, NOISE(gt, rng))


def test_choices_are_drawn_by_weight():
    one_of = OneOf(SizeOfGt(0), SizeOfGt(1), SizeOfGt(2), SizeOfGt(3), weights=(5, 0, 3, 2))
    rng, gt = np.random.default_rng(0), np.zeros((1, 1, 1), np.uint8)
    drawn = Counter(int(one_of(gt, rng).item()) for _ in range(10_000))
    # four standard deviations of a count of 10 000
    assert [drawn[value] for value in range(4)] == pytest.approx([5000, 0, 3000, 2000], abs=200)
    assert drawn[1] == 0


def test_choices_without_weights_are_drawn_equally():
    one_of = OneOf(SizeOfGt(0), SizeOfGt(1))
    rng, gt = np.random.default_rng(0), np.zeros((1, 1, 1), np.uint8)
    drawn = sum(int(one_of(gt, rng).item()) for _ in range(10_000))
    assert drawn == pytest.approx(5000, abs=200)
    assert one_of == OneOf(SizeOfGt(0), SizeOfGt(1), weights=[1, 1])


def test_a_step_happens_with_its_probability():
    rng, gt = np.random.default_rng(0), np.zeros((1, 1, 1), np.uint8)
    step = Sometimes(0.8, SizeOfGt(1))
    happened = sum(int(step(gt, rng).item()) for _ in range(10_000))
    assert happened == pytest.approx(8000, abs=160)


@pytest.mark.parametrize(
    "last",
    [
        SizeOfGt(),
        OneOf(SizeOfGt(), SizeOfGt()),
        Sometimes(1, SizeOfGt()),
        Chain(Every(2), OneOf(Chain(Sometimes(1, SizeOfGt())))),
    ],
)
def test_a_framed_step_knows_the_gt_of_the_outermost_chain(last):
    gt = np.zeros((12, 8, 3), np.uint8)
    assert Chain(Every(4), last)(gt, np.random.default_rng(0)).shape == gt.shape


def test_a_framed_step_alone_takes_what_it_sees_for_gt():
    gt = np.zeros((12, 8, 3), np.uint8)
    assert OneOf(SizeOfGt())(gt, np.random.default_rng(0)).shape == gt.shape


def test_scale_is_the_product_and_the_margin_the_sum():
    chain = Chain(Every(2, margin_px=3), Times(2), Sometimes(0.5, Every(1, margin_px=5)), Every(3))
    assert chain.scale == 6
    # A step after a reduction by two reaches twice as far: 3 + 2 * 5, in whole pixels of lq.
    assert chain.margin_px == 18
    assert (Chain().scale, Chain().margin_px) == (1, 0)


def test_choices_agree_on_scale_and_the_largest_margin_counts():
    one_of = OneOf(Chain(Every(2, margin_px=3), Times(2)), Every(2, margin_px=2))
    assert one_of.scale == 2
    assert one_of.margin_px == 4
    with pytest.raises(ValueError, match=r"choices reduce by \[2, 1\]"):
        OneOf(Every(2), Times(2))


def test_the_strength_of_poisson_noise_is_no_change_of_size():
    assert Chain(PoissonNoise(strength=(0.05, 3)), Every(2)).scale == 2


def test_a_size_that_depends_on_chance_is_refused():
    with pytest.raises(ValueError, match="the step reduces by 2"):
        Sometimes(0.5, Every(2))


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(ValueError, match=r"is outside \[0, 1\]; use for example"):
        Sometimes(probability, NOISE)


@pytest.mark.parametrize("weights", [(1,), (1, -1), (0, 0), (1, 1, 1)])
def test_weights_that_cannot_be_drawn_by_are_refused(weights):
    with pytest.raises(ValueError, match="are not one of at least 0 for each of 2 choices"):
        OneOf(Times(1), Times(2), weights=weights)


def test_no_choice_is_refused():
    with pytest.raises(ValueError, match="for each of 0 choices"):
        OneOf()


def test_values_come_back_from_their_repr_and_from_a_pickle():
    assert eval(repr(DEEP), {kind.__name__: kind for kind in NAMES}) == DEEP
    assert pickle.loads(pickle.dumps(DEEP)) == DEEP
    assert hash(pickle.loads(pickle.dumps(DEEP))) == hash(DEEP)
    assert Chain(Times(1)) != Chain(Times(2))
    assert Chain(Times(1), Times(2)) != Chain(Times(2), Times(1))


def test_the_repr_is_readable():
    assert repr(Chain(Sometimes(0.8, Times(2)), OneOf(Times(1), weights=[3]))) == (
        "Chain(Sometimes(probability=0.8, step=Times(factor=2)), "
        "OneOf(Times(factor=1), weights=(3,)))"
    )


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        DEEP.steps = ()
