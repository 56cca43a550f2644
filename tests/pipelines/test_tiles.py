import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipelines import tiles


def noise(height, width, channels=3, dtype=np.uint8, spread=256):
    return np.random.default_rng(0).integers(0, spread, (height, width, channels), dtype=dtype)


def decoded(coded, pixels):
    height, width, _ = pixels.shape
    planes = [
        tiles.decode(part, (height, num_planes, width), pixels.dtype)
        for num_planes, part in enumerate(coded, start=1)
    ]
    out = np.empty_like(pixels)
    tiles.interleave(planes, out)
    return out


@st.composite
def pictures(draw):
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 3))))
    dtype = draw(st.sampled_from((np.uint8, np.uint16)))
    smooth = np.cumsum(draw(npst.arrays(np.int8, shape, elements=st.integers(-5, 6))), axis=0)
    return smooth.astype(dtype) if draw(st.booleans()) else draw(npst.arrays(dtype, shape))


@settings(deadline=None)  # the first example also loads the codec
@given(pixels=pictures(), fast=st.tuples(st.booleans(), st.booleans()))
def test_every_form_comes_back(pixels, fast):
    before = pixels.copy()
    choices = tiles.encode(pixels)
    assert len(choices) == (2 if pixels.shape[2] == 3 else 1)
    coded = [
        choice.fast if wanted else choice.small
        for choice, wanted in zip(choices, fast, strict=False)
    ]
    np.testing.assert_array_equal(decoded(coded, pixels), before)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("spread", [1, 2, 9])
def test_distances_between_wide_differences_fit_into_a_byte(spread):
    pixels = noise(70, 90, spread=spread)
    coded = [choice.fast for choice in tiles.encode(pixels)]
    assert [form for form, _ in coded] == [tiles.RAW, tiles.NIBBLES]
    np.testing.assert_array_equal(decoded(coded, pixels), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_that_its_left_side_predicts(dtype):
    pixels = noise(90, 1, 1, dtype) + np.arange(80, dtype=dtype)[:, None]
    [choice] = tiles.encode(pixels)
    assert choice.small.form == tiles.ZSTD_LEFT
    np.testing.assert_array_equal(decoded([choice.small], pixels), pixels)


@pytest.mark.parametrize("step", [-3, 3])
def test_small_differences_of_16_bits_have_one_high_byte(step):
    ramp = np.arange(100, dtype=np.uint16) * np.uint16(abs(step)) + np.uint16(30_000)
    pixels = np.repeat(ramp[:: 1 if step > 0 else -1, None, None], 100, axis=1)
    [choice] = tiles.encode(pixels)
    assert len(choice.small.data) < 400


def test_fast_forms_are_chosen_while_they_fit_the_cheapest_first():
    def choice(small, fast):
        return tiles.Choice(tiles.Coded("zstd", bytes(small)), tiles.Coded("raw", bytes(fast)))

    choices = [choice(10, 30), choice(10, 15), choice(10, 8), choice(10, 90), choice(10, 19)]
    for max_bytes, fast in [
        (0, [2]),
        (52, [2]),
        (53, [1, 2]),
        (62, [1, 2, 4]),
        (82, [0, 1, 2, 4]),
        (162, [0, 1, 2, 3, 4]),
    ]:
        chosen = tiles.choose(choices, max_bytes)
        assert [index for index, (form, _) in enumerate(chosen) if form == "raw"] == fast
