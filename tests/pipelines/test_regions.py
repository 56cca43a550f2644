import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import regions
from pipelines.errors import ImageError
from pipelines.regions import Region


@st.composite
def regions_inside(draw, height, width):
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    rows, columns = st.integers(1, height - top), st.integers(1, width - left)
    return Region(top, left, draw(rows), draw(columns))


@given(data=st.data(), orientation=st.integers(1, 8))
def test_a_region_of_the_upright_image_is_found_in_the_stored_one(data, orientation):
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    image = np.arange(height * width * 3).reshape(height, width, 3)
    whole = regions.upright(image, orientation)
    assert whole.shape[:2] == regions.upright_size(height, width, orientation)
    region = data.draw(regions_inside(*whole.shape[:2]))
    part = regions.stored(region, height, width, orientation).cut(image)
    np.testing.assert_array_equal(regions.upright(part, orientation), region.cut(whole))


@pytest.mark.parametrize("values", [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)])
def test_region_is_checked(values):
    with pytest.raises(ImageError, match=r"empty or outside; give for example Region\(0, 0"):
        Region(*values)


def test_region_that_reaches_out():
    region = Region(2, 3, 4, 5)
    region.check_inside(6, 8)
    for size in ((5, 8), (6, 7)):
        with pytest.raises(ImageError, match=f"of {size[0]} rows, {size[1]} columns"):
            region.check_inside(*size)
