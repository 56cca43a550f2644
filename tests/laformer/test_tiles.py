"""Tiles: weights add up, nothing is seen of where they meet, rows come in order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laformer.tiles import Grid, Span, restore_tiles, spans, windows


def larger(scale):
    """Return the network that repeats pixels."""
    return lambda lq: lq.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def restored(pixels, network, **options):
    """Return the rows that the sink was told, and the rectangles that were asked for."""
    rows, asked = [], []

    def source(top, left, height, width):
        asked.append((top, left, height, width))
        return pixels[top : top + height, left : left + width]

    grid = Grid(height=pixels.shape[0], width=pixels.shape[1], **options)
    restore_tiles(network, source, rows.append, grid)
    return np.concatenate(rows), asked


grids = st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(2, 40)).flatmap(
    lambda sides: st.tuples(*map(st.just, sides), st.integers(0, sides[2] // 2))
)


@settings(deadline=None, max_examples=50)
@given(grid=grids, scale=st.integers(1, 4))
def test_the_weights_of_all_tiles_add_up_to_one(grid, scale):
    length, _, tile_px, overlap_px = grid
    places = spans(length, tile_px, overlap_px)
    total = np.zeros(length * scale, np.float32)
    for place, weight in zip(places, windows(places, overlap_px, scale), strict=True):
        assert (weight > 0).all()
        total[place.start * scale : place.stop * scale] += weight
    np.testing.assert_allclose(total, 1, atol=3e-7)


@settings(deadline=None, max_examples=50)
@given(grid=grids, scale=st.integers(1, 4), level=st.integers(0, 65535))
def test_a_constant_stays_the_same_to_one_level_of_16_bits(grid, scale, level):
    height, width, tile_px, overlap_px = grid
    pixels = np.full((height, width, 1), level, np.uint16)
    options = {"tile_px": tile_px, "overlap_px": overlap_px, "scale": scale}
    found, _ = restored(pixels, larger(scale), **options)
    assert found.shape == (height * scale, width * scale, 1)
    assert abs(found * 65535 - level).max() <= 1


@settings(deadline=None, max_examples=50)
@given(grid=grids, scale=st.integers(1, 4))
def test_a_network_that_sees_single_pixels_leaves_no_trace_of_tiles(grid, scale):
    height, width, tile_px, overlap_px = grid
    pixels = np.random.default_rng(0).random((height, width, 3), np.float32)
    options = {"tile_px": tile_px, "overlap_px": overlap_px, "scale": scale}
    found, asked = restored(pixels, larger(scale), **options)
    expected = pixels.repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert all(
        (tall, wide) == (min(height, tile_px), min(width, tile_px)) for _, _, tall, wide in asked
    )
    assert asked == sorted(asked)


def test_no_more_than_a_row_of_tiles_is_kept():
    heights = []

    def source(top, left, height, width):
        return np.zeros((height, width, 3), np.uint8)

    grid = Grid(height=1000, width=64, tile_px=64, overlap_px=8)
    restore_tiles(lambda lq: lq, source, lambda rows: heights.append(len(rows)), grid)
    assert sum(heights) == 1000
    assert max(heights) <= 64


def test_the_network_sees_tiles_of_a_size_that_needs_no_padding():
    seen = set()

    def network(lq):
        seen.add(tuple(lq.shape[2:]))
        return lq

    restored(np.zeros((131, 77, 3), np.uint8), network, tile_px=32, overlap_px=8)
    assert seen == {(32, 32)}


def test_tiles_are_as_far_apart_as_the_overlap_permits():
    assert [place.start for place in spans(100, 40, 10)] == [0, 30, 60]
    assert [place.start for place in spans(101, 40, 10)] == [0, 30, 60, 61]


@pytest.mark.parametrize("scale", [1, 2])
def test_where_tiles_disagree_one_fades_into_the_other(scale):
    numbers = iter((0.0, 1.0))

    def network(lq):
        return torch.full((1, 1, 32 * scale, 32 * scale), next(numbers))

    found, _ = restored(
        np.zeros((32, 56, 1), np.float32), network, tile_px=32, overlap_px=8, scale=scale
    )
    row = found[0, :, 0]
    assert (np.diff(row) >= 0).all()
    assert (np.diff(row) <= 1 / (8 * scale) + 1e-6).all()


@settings(deadline=None, max_examples=25)
@given(grid=grids, scale=st.integers(1, 3), data=st.data())
def test_rows_are_the_same_to_the_bit_whether_others_are_wanted_or_not(grid, scale, data):
    height, width, tile_px, overlap_px = grid
    first = data.draw(st.integers(0, height - 1))
    last = data.draw(st.integers(first + 1, height))
    pixels = np.random.default_rng(0).random((height, width, 1), np.float32)
    options = {"tile_px": tile_px, "overlap_px": overlap_px, "scale": scale}

    def network(lq):  # the answer depends on where the tile lies
        return larger(scale)(lq * lq.mean())

    whole, _ = restored(pixels, network, **options)
    found, asked = restored(pixels, network, wanted=Span(first, last), **options)
    np.testing.assert_array_equal(found, whole[first * scale : last * scale])
    assert all(top < last and top + tall > first for top, _, tall, _ in asked)
