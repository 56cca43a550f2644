"""Listing at once gives what listing in turn gives, whatever the names, in fewer rounds."""

import bisect
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import pages
from pipelines.pages import Entry, Page, UnorderedError, between, walk

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
CLUSTERED = st.text("0a~\u00ff\u6f22\U0001f600", min_size=1, max_size=8)


class Store:
    """Answers as a bucket does, and counts."""

    def __init__(self, keys, page_keys=1000):
        self.keys, self.page_keys, self.num_requests = sorted(keys), page_keys, 0
        self.lock = threading.Lock()

    def __call__(self, after):
        with self.lock:
            self.num_requests += 1
        start = 0 if after is None else bisect.bisect_right(self.keys, after)
        found = self.keys[start : start + self.page_keys]
        entries = [Entry(key, 1, "etag") for key in found]
        return Page(entries, more=start + len(found) < len(self.keys))


def listed(store):
    return sorted(entry.key for page in walk(store) for entry in page.entries)


@given(keys=st.sets(st.one_of(NAMES, CLUSTERED), max_size=60), page_keys=st.integers(1, 7))
def test_every_key_comes_once(keys, page_keys):
    store = Store(keys, page_keys)
    assert listed(store) == sorted(keys)
    assert store.num_requests <= 1 + pages.NUM_REQUESTS * -(-len(keys) // page_keys)


@given(low=st.one_of(NAMES, CLUSTERED), high=st.one_of(st.none(), NAMES, CLUSTERED))
def test_points_lie_between(low, high):
    if high is not None and low >= high:
        return
    points = between(low, high, 5)
    assert len(points) <= 5
    assert all(low < point for point in points)
    assert all(point < high for point in points if high is not None)
    assert points == sorted(set(points))


@pytest.mark.parametrize(
    "pattern", ["{:07d}.png", "train/img_{:07d}.png", "\u6f22\u5b57/{:07d}.png"]
)
def test_flat_numbered_folders_are_shared_out(pattern):
    store = Store([pattern.format(i) for i in range(60_000)])
    assert len(listed(store)) == 60_000
    assert store.num_requests < 6 * 60


def test_a_store_without_order_is_noticed():
    entries = [Entry(key, 1, "") for key in ("b", "a")]
    with pytest.raises(UnorderedError):
        list(walk(lambda _after: Page(entries, more=False)))


def test_a_store_that_starts_where_it_likes_is_noticed():
    entries = [Entry("a", 1, "")]
    with pytest.raises(UnorderedError):
        list(walk(lambda _after: Page(entries, more=True)))
