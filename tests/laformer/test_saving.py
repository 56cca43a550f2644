"""What a start saves before the first checkpoint of its run."""

import pytest

from laformer.saving import Saving


@pytest.mark.parametrize(
    ("start", "every", "early"),
    [
        (0, 5000, {625, 1250, 2500}),
        (625, 5000, {1250, 1875, 3125}),
        (2500, 5000, {3125, 3750}),  # the next would be that of the run
        (4900, 5000, set()),
        (5000, 5000, {5625, 6250, 7500}),
        (0, 80, {10, 20, 40}),
        (0, 30, {15}),
        (0, 12, set()),
    ],
)
def test_a_start_saves_on_the_way_to_its_first_checkpoint(start, every, early):
    assert Saving.after_start(start, every).early == early


def test_starts_that_last_for_an_eighth_of_the_way_reach_the_end():
    step = starts = 0
    while step < 5000:
        lost_at = step + 700
        saved = [s for s in (*Saving.after_start(step, 5000).early, 5000) if s <= lost_at]
        assert saved
        step, starts = max(saved), starts + 1
    assert starts == 8
