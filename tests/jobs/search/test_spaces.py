"""Search spaces: what is drawn fits the job, conditions hold, and mistakes are named."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import recipes
from jobs.errors import JobError
from jobs.search import spaces
from jobs.search.distributions import Choice, Real, Whole
from jobs.search.spaces import SPACES, Entry, Space, When

DEMO = recipes.recipe("demo")


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_takes_what_its_default_space_draws(name):
    job = recipes.recipe(name)
    space, rng = spaces.find(None, job), random.Random(0)
    for _ in range(50):
        values = space.at_random(rng)
        changed = space.apply(job, values)
        assert changed.model.head_dim == changed.model.dim == values["model.dim"]
        assert changed.task == job.task
        assert changed.train.steps == job.train.steps


def test_an_entry_takes_part_only_where_its_condition_holds():
    space, rng, seen = SPACES["training"], random.Random(1), set()
    for _ in range(60):
        values = space.at_random(rng)
        job = space.apply(DEMO, values)
        frequency = values["train.loss"].endswith("frequency")
        assert ("frequency" in values) == frequency
        seen.add(frequency)
        if frequency:
            assert job.train.loss == f"charbonnier + {values['frequency']:.3g} frequency"
    assert seen == {False, True}


def test_the_recipe_itself_is_a_point_of_the_space_or_none():
    values = SPACES["training"].of(DEMO)
    assert values["train.lr"] == DEMO.train.lr
    assert SPACES["training"].apply(DEMO, values) == DEMO
    assert Space((Entry("train.lr", Real(1e-4, 1e-3)),)).of(DEMO) is None
    assert Space((Entry("model.dim", Choice((8, 16))),)).of(DEMO) is None


def test_values_survive_json():
    space = SPACES["tiny"]
    values = space.at_random(random.Random(3))
    read = {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}
    assert space.parse(read) == values
    with pytest.raises(ValueError, match="9 is none of 8, 12, 16, 24"):
        space.parse({"model.dim": 9})
    with pytest.raises(ValueError, match="1 is outside"):
        space.parse({"train.lr": 1})


def test_a_grid_holds_every_combination_once():
    space = Space(
        (
            Entry("train.lr", Real(1e-4, 1e-2, log=True)),
            Entry("train.loss", Choice(("l1", "charbonnier"))),
            Entry("train.clip_norm", Real(1, 2), when=When("train.loss", ("l1",))),
        )
    )
    found = list(space.grid(3))
    assert len(found) == 3 * 3 + 3
    rates = sorted({values["train.lr"] for values in found})
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2])


def test_a_value_nearby_stays_in_bounds_and_leaves_the_network_alone():
    space, rng = SPACES["tiny"], random.Random(5)
    values = space.at_random(rng)
    for _ in range(40):
        near = space.near(values, rng)
        assert {n: v for n, v in near.items() if n.startswith("model.")} == {
            n: v for n, v in values.items() if n.startswith("model.")
        }
        values = space.parse(near)


@given(st.integers(0, 2**32))
def test_what_is_drawn_is_within_bounds(seed):
    for spot in (Real(0.1, 10, log=True), Real(-1, 1), Whole(1, 7), Whole(1, 900, log=True)):
        value = spot.draw(random.Random(seed))
        assert spot.parse(value) == value
        assert 0 <= spot.place(value) <= 1
        assert spot.parse(spot.near(value, random.Random(seed))) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real(2, 1), "bounds 2 and 1 hold nothing"),
        (lambda: Real(0, 1, log=True), "low 0 has no logarithm"),
        (lambda: Choice((1,)), "not two or more"),
        (lambda: Space((Entry("train.learning", Real(0, 1)),)), "no field of a job"),
        (lambda: Space((Entry("name", Real(0, 1)),)), "no field of a job"),
        (lambda: Space((Entry("train.lr", Real(0, 1)),) * 2), "twice"),
        (
            lambda: Space((Entry("train.lr", Real(0, 1), when=When("model.dim", (8,))),)),
            "not before it",
        ),
    ],
)
def test_a_space_that_means_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_some_entries_can_be_searched_alone():
    space = SPACES["tiny"].only(("train.lr", "model.dim"))
    assert space.names == ("train.lr", "model.dim")
    with pytest.raises(JobError, match=r"lr is not in the space; it has train\.lr"):
        SPACES["tiny"].only(("lr",))
    with pytest.raises(JobError, match=r"frequency depends on train\.loss"):
        SPACES["tiny"].only(("frequency",))
    with pytest.raises(JobError, match="unknown space 'huge'; use one of: tiny, base"):
        spaces.find("huge", DEMO)
