"""The plan is arithmetic: everything about it can be checked without an image."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.plan import Plan, permute, spans

plans = st.builds(
    Plan,
    seed=st.integers(0, 2**32),
    num_images=st.integers(1, 40),
    global_batch=st.sampled_from([1, 2, 4, 6]),
    crops_per_visit=st.integers(1, 8),
    visits_per_window=st.integers(1, 4),
)


@given(size=st.integers(1, 300), key=st.integers(0, 2**64))
def test_permute_hits_every_index_once(size, key):
    assert sorted(permute(i, size, key) for i in range(size)) == list(range(size))


def test_permute_needs_no_list_for_a_billion():
    size = 10**9
    images = [permute(i, size, 7) for i in range(1000)]
    assert len(set(images)) == 1000
    assert all(0 <= image < size for image in images)
    # Not an accident of order: neighbours land far apart.
    assert min(abs(a - b) for a, b in itertools.pairwise(images)) > 1000


def test_permute_names_an_index_outside_its_range():
    with pytest.raises(ValueError, match=r"index 5 is outside range\(5\)"):
        permute(5, 5, 0)


@given(plan=plans)
def test_every_image_is_visited_once_an_epoch(plan):
    for epoch in range(3):
        visits = range(epoch * plan.num_images, (epoch + 1) * plan.num_images)
        assert sorted(plan.image(visit) for visit in visits) == list(range(plan.num_images))


@given(plan=plans, window=st.integers(0, 5))
def test_each_visit_of_a_window_gives_all_its_crops(plan, window):
    first = window * plan.window_steps * plan.global_batch
    last = (window + 1) * plan.window_steps * plan.global_batch
    counts: dict[int, int] = {}
    for sample_id in range(first, last):
        visit = plan.locate(sample_id).visit
        counts[visit] = counts.get(visit, 0) + 1
    visits = range(
        window * plan.visits_per_window * plan.global_batch,
        (window + 1) * plan.visits_per_window * plan.global_batch,
    )
    assert counts == dict.fromkeys(visits, plan.crops_per_visit)


@given(plan=plans, step=st.integers(0, 100))
def test_a_batch_is_cut_from_as_many_visits_as_it_has_lanes(plan, step):
    ids = range(step * plan.global_batch, (step + 1) * plan.global_batch)
    assert len({plan.locate(n).visit for n in ids}) == plan.global_batch


@given(
    plan=plans,
    first=st.integers(0, 50),
    num=st.integers(1, 40),
    workers=st.sampled_from([1, 2, 3]),
)
def test_any_number_of_workers_consumes_the_same_samples_in_the_same_steps(
    plan, first, num, workers
):
    if plan.global_batch % workers:
        return
    blocks = list(spans(plan, first_step=first, last_step=first + num, num_workers=workers))
    # Blocks are dealt out in turn; each worker's blocks follow each other without a gap.
    for worker in range(workers):
        own = blocks[worker::workers]
        assert {(b.first_lane, b.last_lane) for b in own} == {(own[0].first_lane, own[0].last_lane)}
        assert [b.first_step for b in own[1:]] == [b.last_step for b in own[:-1]]
    ids = sorted(n for b in blocks for n in b.sample_ids(plan.global_batch))
    assert ids == list(range(first * plan.global_batch, (first + num) * plan.global_batch))


def test_lanes_that_do_not_divide_are_refused():
    plan = Plan(seed=0, num_images=3, global_batch=4)
    with pytest.raises(ValueError, match="global batch 4 does not divide among 3 workers"):
        list(spans(plan, first_step=0, last_step=1, num_workers=3))


def test_an_empty_plan_is_refused():
    with pytest.raises(ValueError, match="num_images 0 is less than 1"):
        Plan(seed=0, num_images=0, global_batch=1)


def test_the_generator_belongs_to_the_sample():
    plan = Plan(seed=3, num_images=5, global_batch=2)
    assert plan.rng(11).integers(1 << 60) == plan.rng(11).integers(1 << 60)
    assert plan.rng(11).integers(1 << 60) != plan.rng(12).integers(1 << 60)


def test_the_sequence_is_the_one_that_checkpoints_were_written_with():
    # A change here breaks the resume of every run: it needs a new plan version, not a new number.
    plan = Plan(seed=1, num_images=7, global_batch=2, crops_per_visit=3, visits_per_window=2)
    assert [plan.locate(n).image for n in range(12)] == EXPECTED_IMAGES
    assert plan.rng(0).integers(1 << 30) == EXPECTED_DRAW


EXPECTED_IMAGES = [4, 6, 4, 3, 1, 6, 1, 6, 1, 3, 4, 3]
EXPECTED_DRAW = 508082495
