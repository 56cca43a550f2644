"""The plan is arithmetic: everything about it can be checked without an image."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.plan import Plan, permute, spans

plans = st.integers(1, 3).flatmap(
    lambda num_sources: st.builds(
        Plan,
        seed=st.integers(0, 2**32),
        source_images=st.tuples(*[st.integers(1, 40)] * num_sources),
        source_weights=st.tuples(*[st.integers(1, 5)] * num_sources),
        global_batch=st.sampled_from([1, 2, 4, 6]),
        crops_per_visit=st.integers(1, 8),
        visits_per_window=st.integers(1, 4),
    )
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
def test_every_image_of_a_source_is_visited_once_an_epoch_of_the_source(plan):
    seen: list[list[int]] = [[] for _ in plan.source_images]
    cycles = 3 * max(plan.source_images)
    for visit in range(cycles * sum(plan.source_weights)):
        source, image = plan.image(visit)
        seen[source].append(image)
    for images, size in zip(seen, plan.source_images, strict=True):
        # The visits of a cycle come in any order, so epochs overlap by less than a cycle.
        counts = [images.count(image) for image in range(size)]
        assert max(counts) - min(counts) <= 1


@given(plan=plans, cycle=st.integers(0, 10**9))
def test_every_cycle_holds_each_source_as_often_as_it_weighs(plan, cycle):
    num = sum(plan.source_weights)
    visits = range(cycle * num, (cycle + 1) * num)
    sources = [plan.image(visit)[0] for visit in visits]
    assert tuple(map(sources.count, range(len(plan.source_weights)))) == plan.source_weights


@given(plan=plans, visit=st.integers(0, 10**9), skip=st.integers(1, 50))
def test_a_stand_in_is_of_the_same_source(plan, visit, skip):
    first, stand_in = (plan.image(visit, n) for n in (0, skip))
    size = plan.source_images[first[0]]
    assert stand_in == (first[0], (first[1] + skip) % size)


def test_a_billion_images_and_samples_need_no_list():
    plan = Plan(seed=4, source_images=(10**9,), global_batch=64)
    per_lane = plan.crops_per_visit
    ids = [int(n) for n in np.linspace(0, 10**9 * per_lane - 1, 2000)]
    tracemalloc.start()
    samples = [plan.locate(n) for n in ids]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    # All of them in the first epoch: other visits are other images.
    assert max(sample.visit for sample in samples) < 10**9
    visits = {sample.visit: sample.image for sample in samples}
    assert len(set(visits.values())) == len(visits)
    assert all(0 <= image < 10**9 for image in visits.values())


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
    lanes=st.integers(1, 7),
)
def test_any_number_of_workers_consumes_the_same_samples_in_the_same_steps(
    plan, first, num, workers, lanes
):
    if plan.global_batch % workers:
        return
    last = first + num
    cut = spans(plan, first_step=first, last_step=last, num_workers=workers, lanes_per_span=lanes)
    blocks = list(cut)
    # Blocks are dealt out in turn; each worker's blocks follow each other without a gap.
    for worker in range(workers):
        low = worker * plan.global_batch // workers
        high = (worker + 1) * plan.global_batch // workers
        step, lane = first, low
        for block in blocks[worker::workers]:
            assert (block.first_step, block.first_lane) == (step, lane)
            assert 0 < block.last_lane - block.first_lane <= lanes
            done = block.last_lane == high
            step, lane = (block.last_step, low) if done else (step, block.last_lane)
        assert (step, lane) == (last, low)
    # So that dealing them out in turn is what the least filled worker would be given.
    for index in range(0, len(blocks), workers):
        sizes = {len(b.sample_ids(plan.global_batch)) for b in blocks[index : index + workers]}
        assert len(sizes) == 1
    ids = sorted(n for b in blocks for n in b.sample_ids(plan.global_batch))
    assert ids == list(range(first * plan.global_batch, (first + num) * plan.global_batch))


def test_lanes_that_do_not_divide_are_refused():
    plan = Plan(seed=0, source_images=(3,), global_batch=4)
    with pytest.raises(ValueError, match="global batch 4 does not divide among 3 workers"):
        list(spans(plan, first_step=0, last_step=1, num_workers=3, lanes_per_span=1))


def test_an_empty_plan_is_refused():
    with pytest.raises(ValueError, match=r"source_images \(0,\) is less than 1"):
        Plan(seed=0, source_images=(0,), global_batch=1)


def test_a_source_without_a_weight_is_refused():
    with pytest.raises(ValueError, match="2 sources have 1 weights"):
        Plan(seed=0, source_images=(3, 4), global_batch=1)


def test_the_generator_belongs_to_the_sample():
    plan = Plan(seed=3, source_images=(5,), global_batch=2)
    assert plan.rng(11).integers(1 << 60) == plan.rng(11).integers(1 << 60)
    assert plan.rng(11).integers(1 << 60) != plan.rng(12).integers(1 << 60)


def test_the_sequence_is_the_one_that_checkpoints_were_written_with():
    # A change here breaks the resume of every run: it needs a new plan version, not a new number.
    plan = Plan(seed=1, source_images=(7,), global_batch=2, crops_per_visit=3)
    assert [plan.locate(n).image for n in range(12)] == EXPECTED_IMAGES
    assert plan.rng(0).integers(1 << 30) == EXPECTED_DRAW


EXPECTED_IMAGES = [0, 2, 0, 2, 0, 3, 6, 3, 6, 3, 6, 2]
EXPECTED_DRAW = 508082495
